"""Who did what, when and with which version: a chain of entries that only grows.

::

    audit/<thousand>/<number>.json    an entry, never changed; holds the SHA-256 of the one before
    audit/END.json                    where the end was a moment ago: a hint, no more

Entries count from 1. Writing one is ``put_if_absent`` of the number after the end: of several
writers one gets the number, and the others read the end again. A flipped byte, an entry that is
missing, swapped or added breaks the chain; the end alone can be cut off without a trace, unless its
number and hash were written down elsewhere (:meth:`AuditLog.end`).

An entry is noted at least once: who was killed between an act and its entry notes it when the act
is repeated, which finds it done, and who was killed after the entry may note it twice. The one
exception are ``drop`` and ``retire``, which the version without the product tells of.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from catalog_pipeline.canonical_json import canonical_text
from catalog_pipeline.errors import AuditError, IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.settings import environment
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.objects import ObjectStore, until_won

ACTOR_ENV = "CATALOG_PIPELINE_ACTOR"
AUDIT_PREFIX = "audit/"
HINT_KEY = f"{AUDIT_PREFIX}END.json"
START = "0" * 64
"""What the first entry has for the SHA-256 of the one before."""

AUDIT_SCHEMA_VERSION = 1
_PER_FOLDER = 1000
_HINT_EVERY = 16
"""A hint costs as much as an entry; one that lags by so many costs a look or two."""


@dataclass(frozen=True)
class Signature:
    """Who acts: a person or service, and the run of the scheduler, empty where there is none."""

    actor: str
    run: str = ""


@dataclass(frozen=True)
class AuditEntry:
    """One entry; ``sha256`` is of its bytes, ``previous`` of those of the entry before.

    ``subject`` is what was acted on: a SKU, a collection, a night. ``facts`` are plain JSON.
    """

    number: int
    action: str
    subject: str
    version: str
    at_utc: datetime
    signed: Signature
    facts: Mapping[str, Any]
    previous: str
    sha256: str = field(default="", compare=False)

    def encode(self) -> bytes:
        """Canonical JSON and a line break; the same entry gives the same bytes."""
        content = {
            "schema_version": AUDIT_SCHEMA_VERSION,
            "number": self.number,
            "action": self.action,
            "subject": self.subject,
            "version": self.version,
            "at_utc": self.at_utc.astimezone(UTC).isoformat(),
            "actor": self.signed.actor,
            "run": self.signed.run,
            "facts": dict(self.facts),
            "previous": self.previous,
        }
        return canonical_text(content).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, what: str) -> AuditEntry:
        """The entry of :meth:`encode`; ``what`` names it in errors.

        Raises:
            IntegrityError: not such an entry, or not byte for byte.
            StoreError: written by a newer version of this program.
        """
        try:
            content = json.loads(data)
            schema_version = int(content["schema_version"])
            if schema_version > AUDIT_SCHEMA_VERSION:
                raise StoreError(
                    f"{what} has schema version {schema_version}; this program reads up to "
                    f"{AUDIT_SCHEMA_VERSION}: upgrade catalog-pipeline"
                )
            entry = cls(
                int(content["number"]),
                str(content["action"]),
                str(content["subject"]),
                str(content["version"]),
                datetime.fromisoformat(content["at_utc"]),
                Signature(str(content["actor"]), str(content["run"])),
                dict(content["facts"]),
                str(content["previous"]),
                sha256_hex(data),
            )
            altered = entry.encode() != data
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{what} is not an entry of the audit log ({error})") from error
        if altered:
            raise IntegrityError(f"{what} is not as it was written: its JSON is not canonical")
        return entry


@dataclass(frozen=True)
class AuditEnd:
    """The last entry's number and SHA-256; 0 and :data:`START` of an empty log."""

    number: int = 0
    sha256: str = START

    def __str__(self) -> str:
        return f"{self.number}:{self.sha256}"


class AuditLog:
    """The audit log of a home. Idempotency: none; see the module for what that means.

    Atomic: each entry. A crash leaves the chain as it was, or one entry longer. Finding the end
    takes two looks for who wrote last, and a number that grows with the logarithm for others:
    no listing, however long the log is.

    ``signed`` is who appends: by default ``$CATALOG_PIPELINE_ACTOR``, else the operating
    system's user, and no run.
    """

    def __init__(self, objects: ObjectStore, signed: Signature | None = None) -> None:
        self._objects = objects
        self.signed = signed or Signature(default_actor())
        self._known: AuditEnd | None = None

    def append(
        self,
        action: str,
        subject: str,
        *,
        version: str = "",
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> AuditEntry:
        """Note that ``action`` was done to ``subject``; concurrent calls all get their entry.

        Args:
            action: a verb: ``learn``, ``promote``, ``publish`` ...
            subject: a SKU, a collection, a night or a file.
            version: of the collection or the manifest that came of it.
            facts: plain JSON. No secret, nothing that shows or describes a product.

        Raises:
            AuditError: the store did not take the entry.
        """

        def attempt() -> AuditEntry:
            end = self.end()
            entry = AuditEntry(
                number=end.number + 1,
                action=action,
                subject=subject,
                version=version,
                at_utc=datetime.now(UTC),
                signed=self.signed,
                facts=facts,
                previous=end.sha256,
            )
            data = entry.encode()
            self._objects.compare_and_swap(entry_key(entry.number), data, None)
            self._known = AuditEnd(entry.number, sha256_hex(data))
            return replace(entry, sha256=self._known.sha256)

        try:
            entry = until_won(attempt, "the audit log")
        except StoreError as error:
            raise AuditError(
                f"the audit log did not take the entry {action!r} of {subject}: {error}; what is "
                "done stays done: run the same command again, which notes it"
            ) from error
        if entry.number % _HINT_EVERY == 0:
            with suppress(StoreError):  # only a hint
                hint = {"number": entry.number, "sha256": entry.sha256}
                self._objects.put(HINT_KEY, canonical_text(hint).encode() + b"\n")
        return entry

    def end(self) -> AuditEnd:
        """The last entry.

        Where the entry that the hint names is gone, the hint is taken for the end: the log goes on
        behind a gap that everybody sees, instead of closing it.

        Raises:
            IntegrityError: the last entry cannot be read.
        """
        start = self._known or self.hint() or AuditEnd()
        number = self._last_number(start.number)
        if number == start.number:
            return start
        data = self._objects.read(entry_key(number)).data
        self._known = AuditEnd(number, sha256_hex(data))
        return self._known

    def hint(self) -> AuditEnd | None:
        """What ``END.json`` says; ``None`` where there is none, or one that makes no sense."""
        try:
            content = json.loads(self._objects.read(HINT_KEY).data)
            return AuditEnd(int(content["number"]), str(content["sha256"]))
        except (ObjectNotFoundError, IntegrityError, ValueError, KeyError, TypeError):
            return None

    def read(self, numbers: Sequence[int]) -> list[AuditEntry]:
        """The entries of these numbers.

        Raises:
            ObjectNotFoundError: there is no such entry.
            IntegrityError: it is no entry.
        """
        return list(self._objects.each_of(self._read, numbers))

    def newest_first(self, at_once: int = 256) -> Iterator[list[AuditEntry]]:
        """All entries from the end to the first, some at a time; those that are missing left out.

        Raises:
            IntegrityError: one of them is no entry.
        """
        last = self.end().number
        while last > 0:
            numbers = range(max(1, last - at_once + 1), last + 1)
            found = self._objects.each_of(self._find, list(numbers))
            yield [entry for entry in reversed(found) if entry is not None]
            last -= at_once

    def _last_number(self, known: int) -> int:
        """The last of the numbers that follow ``known`` without a gap."""
        step, low = 1, known
        while self._objects.exists(entry_key(low + step)):
            low, step = low + step, 2 * step
        high = low + step  # not there
        while high - low > 1:
            middle = (low + high) // 2
            if self._objects.exists(entry_key(middle)):
                low = middle
            else:
                high = middle
        return low

    def _read(self, number: int) -> AuditEntry:
        key = entry_key(number)
        return AuditEntry.decode(self._objects.read(key).data, self._objects.uri(key))

    def _find(self, number: int) -> AuditEntry | None:
        try:
            return self._read(number)
        except ObjectNotFoundError:
            return None


def entry_key(number: int) -> str:
    """Where the entry with this number is stored."""
    return f"{AUDIT_PREFIX}{number // _PER_FOLDER:06d}/{number:09d}.json"


def default_actor() -> str:
    """``$CATALOG_PIPELINE_ACTOR``, else the operating system's user, else its number."""
    named = environment(ACTOR_ENV)
    if named is not None:
        return named.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return f"uid {os.getuid()}"
