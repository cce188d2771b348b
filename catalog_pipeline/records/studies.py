"""What a study of a catalog has found: a cell a way of learning it, a row a product of a cell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StudyRow:
    """A product in a cell; grain of the table: one row per ``row_id``, which is ``cell/sku``.

    ``choice`` is what the study compares: ``sku``, ``family`` or ``category``; ``each``,
    ``nightly`` or ``weekly``. ``concept`` drew the product and has ``members`` products.
    ``likeness`` is crops to photos over the photos' own, at the end, ``likeness_learned`` the same
    once the product was learned last, ``forgotten`` the difference; ``color_shift`` is in CIELAB
    units, at the end. ``None`` where there is no such figure; ``reason`` says why.
    ``waited_days`` is the mean time from a delivery of its photos to their learning.
    """

    row_id: str
    study: str
    choice: str
    slots: str
    seed: int
    sku: str
    name: str
    category: str
    family: str
    concept: str
    members: int
    likeness_learned: float | None
    likeness: float | None
    forgotten: float | None
    color_shift: float | None
    waited_days: float
    reason: str = ""


@dataclass(frozen=True)
class StudyCell:
    """One way of learning the catalog, with one seed.

    ``concepts`` are served at the end, ``tasks`` learned them, ``refused`` attempts failed;
    ``seconds`` are the learning log's, of all of them. ``stored_bytes`` is the collection as it
    lies there, ``served_bytes`` the parts that its head names.
    """

    name: str
    study: str
    choice: str
    slots: str
    seed: int
    updates: int
    concepts: int
    tasks: int
    refused: int
    seconds: float
    stored_bytes: int
    served_bytes: int
    rows: tuple[StudyRow, ...]
