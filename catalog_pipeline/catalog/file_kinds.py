"""What an entry of a product folder is, by its name alone, and why it is not read."""

from __future__ import annotations

import os
import re
from typing import Literal

from catalog_pipeline.catalog.card import CARD_NAMES

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".webp"}  # half of them are JPEG
)
OTHER_PICTURE_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".jxl", ".psd", ".svg"}
    | {".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}
)
UNFINISHED_SUFFIXES = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", "~")
SYSTEM_NAMES = frozenset(
    {"@eadir", "@tmp", "#recycle", "#snapshot"}  # Synology
    | {"@recycle", "@recently-snapshot", "@transcode"}  # QNAP
    | {"~snapshot", "lost+found"}  # NetApp, ext4
    | {"__macosx", "network trash folder", "temporary items", "icon\r"}  # macOS
    | {"$recycle.bin", "system volume information"}  # Windows
)
"""What systems put into every share, in lower case; none could be a SKU. Hidden ones go without
saying."""
SIDECAR_SUFFIXES = (
    *(".txt", ".md", ".rtf", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".csv", ".tsv"),
    *(".json", ".xml", ".xmp", ".aae", ".html", ".htm", ".url", ".webloc", ".lnk"),
    *(".mp4", ".mov", ".m4v", ".avi", ".mp3", ".wav", ".md5", ".sha256", ".log", ".ini", ".db"),
    *(".bak", ".old", ".orig", ".swp", ".download", ".opdownload", ".aria2", "_$folder$"),
    *(":zone.identifier", "@synoeastream", "@synoresource"),
)
"""What nobody takes for a photo: notes, metadata, films, editors' copies, downloads under way."""

FOLDER_REASON = "is a folder and is not read; put the photos directly into the SKU's folder"

FileKind = Literal["photo", "card", "misnamed_card", "other_picture", "unknown", "ignored"]

MISNAMED_REASON = (
    "looks like the product's card, but a card is called "
    f"{', '.join(CARD_NAMES[:-1])} or {CARD_NAMES[-1]}; rename it, or delete it"
)
_MISNAMED_CARD = re.compile(
    r"(sku(?![a-z0-9]).*\.ya?ml|sku\W*\d?\W*(copy\W*\d?\W*)?\.json)(\.txt)?|sku\.txt", re.DOTALL
)


def kind_of(name: str, sku: str = "") -> FileKind:
    """What a file in the folder of ``sku`` is."""
    lowered = name.lower().strip()
    if not lowered or is_passed_over(name):
        return "ignored"
    if name.lower() in CARD_NAMES:
        return "card"
    own = {f"{sku.lower()}.yaml", f"{sku.lower()}.yml"}
    if _MISNAMED_CARD.fullmatch(lowered) or lowered.removesuffix(".txt") in own:
        return "misnamed_card"
    suffix = os.path.splitext(name.lower())[1]
    if suffix in PHOTO_SUFFIXES:
        return "photo"
    if suffix in OTHER_PICTURE_SUFFIXES:
        return "other_picture"
    return "ignored" if lowered.endswith(SIDECAR_SUFFIXES) else "unknown"


def is_passed_over(name: str) -> bool:
    """Whether a name is hidden, a system's own, or that of an unfinished copy."""
    lowered = name.lower()
    return (
        name.startswith((".", "~$"))
        or lowered in SYSTEM_NAMES
        or lowered.endswith(UNFINISHED_SUFFIXES)
    )


def why_not_read(name: str, kind: FileKind) -> str:
    """What to say of a file that is neither photo nor card."""
    if kind == "other_picture":
        return f"{os.path.splitext(name)[1]} is not read; export it as .jpg, .png or .webp"
    return "is not read: its name does not end in .jpg, .png or .webp; rename it if it is a photo"


def printable(name: str) -> str:
    """``name`` with what cannot be stored or shown (control characters, bytes) escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
