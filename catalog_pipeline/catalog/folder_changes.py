"""What to write into a product's folder so that it holds what a feed says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from catalog_pipeline.catalog.card import CARD_NAMES, decode_card
from catalog_pipeline.catalog.product_folders import (
    CARD_NAME,
    FolderChanges,
    FolderRecord,
    FolderRefusedError,
    FolderState,
    PhotoFile,
    ProductFolders,
    WrittenPhoto,
    safe_name,
    sha256,
)
from catalog_pipeline.errors import ConfigurationError


def compare_folder(
    folders: ProductFolders,
    state: FolderState,
    card: bytes,
    photos: Sequence[PhotoFile],
    *,
    overwrite_card: bool = False,
) -> FolderChanges:
    """What to change in the folder of ``state``; reads photos only where the stamps do not tell.

    Raises:
        FolderRefusedError: a person wrote or edited the card, and ``overwrite_card`` is not set.
    """
    record = state.record or FolderRecord()
    inside = {p.name for p in photos if p.location == folders.location(state.sku, p.name)}
    outside = [p for p in photos if p.location != folders.location(state.sku, p.name)]
    persons = set(state.photos) - set(record.photos)
    wanted, kept = _named(folders, state.sku, outside, persons)
    write: dict[str, PhotoFile] = {}
    ours: dict[str, WrittenPhoto] = {}
    for name, photo in wanted.items():
        written = record.photos.get(name)
        if written is None or name not in state.photos:
            write[name] = photo
            continue
        what = _fate(folders, state, name, photo, written)
        if what == "write":
            write[name] = photo
        else:
            ours[name] = written
            kept |= {name} if what == "edited" else set()
    removed = []
    for name, written in record.photos.items():
        if name in wanted or name in inside or name not in state.photos:
            continue
        own = not written.stamp or written.stamp == state.photos[name]
        if own or folders.is_as_written(state.sku, name, written):
            removed.append(name)
        else:
            kept.add(name)
    new_card, cards, removed_cards = _card_changes(state, record, card, overwrite_card)
    left = set(state.photos) - set(removed)
    return FolderChanges(
        sku=state.sku,
        is_new=not state.exists,
        photos=write,
        replaced=tuple(sorted(set(write) & set(state.photos))),
        removed=tuple(sorted(removed)),
        card=new_card,
        removed_cards=removed_cards,
        kept=tuple(sorted(kept | (persons - inside))),
        ours=ours,
        cards=cards,
        all_photos=tuple(sorted(left | set(write))),
        unfinished=state.unfinished or not state.cards,
    )


def _fate(
    folders: ProductFolders, state: FolderState, name: str, photo: PhotoFile, written: WrittenPhoto
) -> str:
    """``stays``, ``write``, or ``edited`` by a person."""
    if not written.stamp:
        return "write"
    untouched = state.photos[name] == written.stamp
    if untouched and (photo.location, photo.stamp) == (written.source, written.source_stamp):
        return "stays"
    if folders.is_same(photo, state.sku, name):
        return "stays"
    if untouched or folders.is_as_written(state.sku, name, written):
        return "write"
    return "edited"


def _named(
    folders: ProductFolders, sku: str, photos: Iterable[PhotoFile], persons: set[str]
) -> tuple[dict[str, PhotoFile], set[str]]:
    """The name of each photo in the folder; those that a person has put there already."""
    wanted: dict[str, PhotoFile] = {}
    there: set[str] = set()
    taken = {name.lower() for name in persons}
    for photo in photos:
        name = safe_name(photo.name)
        if name in persons and name not in there and folders.is_same(photo, sku, name):
            there.add(name)
            continue
        stem, ending = os.path.splitext(name)
        number = 2
        while name.lower() in taken:
            name = f"{stem}-{number}{ending}"
            number += 1
        taken.add(name.lower())
        wanted[name] = photo
    return wanted, there


def _card_changes(
    state: FolderState, record: FolderRecord, card: bytes, overwrite: bool
) -> tuple[bytes | None, tuple[str, ...], tuple[str, ...]]:
    """The card to write, the hashes that count as the import's, the cards to remove."""
    wanted = sha256(card)
    names = sorted(state.cards, key=lambda name: (CARD_NAMES.index(name.lower()), name))
    if not names:
        return card, (*record.cards[-1:], wanted), ()
    present = state.cards[names[0]]
    if present == card:
        return None, (wanted,), ()
    own = names[0] == CARD_NAME and sha256(present) in record.cards
    if not own and _says_the_same(names[0], present, card):
        return None, record.cards[-1:], ()
    if not (own or overwrite):
        how = "was edited by hand" if record.cards else "was written by hand"
        raise FolderRefusedError(
            f"the card {state.sku}/{names[0]} {how} and says something else; expected the "
            "feed's; put the change into the feed, or overwrite the card with --overwrite-cards"
        )
    others = tuple(name for name in names if name != CARD_NAME) if not own else ()
    return card, (*((sha256(present),) if own else ()), wanted), others


def _says_the_same(name: str, present: bytes, card: bytes) -> bool:
    try:
        return decode_card(name, present) == decode_card(CARD_NAME, card)
    except ConfigurationError:
        return False
