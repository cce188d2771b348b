"""Whether the audit log is whole: every entry there, as it was written, behind the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.stores.audit_log import (
    AUDIT_PREFIX,
    HINT_KEY,
    START,
    AuditEnd,
    AuditEntry,
    AuditLog,
    entry_key,
)
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.objects import ObjectStore

_AT_ONCE = 256
_ENTRY = re.compile(rf"{AUDIT_PREFIX}\d{{6}}/(\d{{9}})\.json")


@dataclass(frozen=True)
class AuditReport:
    """What a walk along the chain found; no ``problems`` means that it is whole.

    ``end`` is the last entry that is there, ``entries`` how many are.
    """

    end: AuditEnd
    entries: int
    problems: tuple[str, ...]


def verify_chain(objects: ObjectStore, expected: AuditEnd | None = None) -> AuditReport:
    """Read every entry, in order, and compare each with what the next one says of it.

    ``expected`` is an end that was written down elsewhere: without it nobody can tell whether the
    newest entries were cut off, except as far as the hint in the log itself goes. Its hash may be
    a beginning.

    Raises:
        StoreError: the log cannot be listed or read, or is of a newer release.
    """
    keys = objects.list(AUDIT_PREFIX)
    numbers = sorted(int(found[1]) for key in keys if (found := _ENTRY.fullmatch(key)))
    named = {entry_key(number) for number in numbers}
    problems = [
        f"{key} is no entry of the log; expected nothing else there"
        for key in keys
        if key not in named and key != HINT_KEY
    ]
    problems += _gaps(numbers)
    hint, end = AuditLog(objects).hint(), AuditEnd()
    told = [(hint, f"{HINT_KEY} says")] if hint else []
    told += [(expected, "expected was")] if expected else []
    wanted = {one.number for one, _ in told}
    seen: dict[int, str] = {}
    for number, digest, wrong in _walk(objects, numbers, end):
        problems += wrong
        end = AuditEnd(number, digest)
        if number in wanted:
            seen[number] = digest
    for one, who in told:
        problems += _compared(one, who, seen.get(one.number), end)
    return AuditReport(end, len(numbers), tuple(problems))


def _gaps(numbers: Sequence[int]) -> Iterator[str]:
    before = 0
    for number in numbers:
        if number != before + 1:
            missing = f"entry {before + 1} is" if number == before + 2 else ""
            missing = missing or f"entries {before + 1} to {number - 1} are"
            yield f"{missing} missing; restore from a backup what was removed"
        before = number


def _walk(
    objects: ObjectStore, numbers: Sequence[int], before: AuditEnd
) -> Iterator[tuple[int, str, list[str]]]:
    """Number and SHA-256 of each entry, and what is wrong with it."""

    def read(number: int) -> bytes:
        return objects.read(entry_key(number)).data

    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        for number, data in zip(some, objects.each_of(read, some), strict=True):
            digest = sha256_hex(data)
            yield number, digest, list(_problems(number, data, before))
            before = AuditEnd(number, digest)


def _problems(number: int, data: bytes, before: AuditEnd) -> Iterator[str]:
    key = entry_key(number)
    try:
        entry = AuditEntry.decode(data, key)
    except IntegrityError as error:
        yield str(error)
        return
    if entry.number != number:
        yield f"{key} holds entry {entry.number}; entries were swapped or renamed"
    if before.number == number - 1 and entry.previous != before.sha256:
        after = f"entry {before.number}" if before.number else "the beginning"
        yield (
            f"{key} follows {entry.previous[:12]}, and {after} is {before.sha256[:12]}; one of the "
            "two was altered or exchanged; restore both from a backup"
        )


def _compared(told: AuditEnd, who: str, digest: str | None, end: AuditEnd) -> Iterator[str]:
    if told.number == 0:
        return
    if digest is None and told.number > end.number:
        yield (
            f"the log ends with entry {end.number}, and {who} {told.number}: its end was cut off; "
            "restore it from a backup"
        )
    elif digest is not None and not digest.startswith(told.sha256):
        yield (
            f"entry {told.number} is {digest[:12]}, and {who} {told.sha256[:12]}; it was altered, "
            "or written anew"
        )


def parse_end(text: str) -> AuditEnd:
    """``NUMBER:HASH`` as ``audit head`` prints it; the hash may be its first 8 or more digits.

    Raises:
        ValueError: it is not.
    """
    found = re.fullmatch(r"(\d{1,9}):([0-9a-f]{8,64})", text.strip())
    if found is None:
        raise ValueError(f"got {text!r}; expected NUMBER:HASH as `audit head` prints it")
    number = int(found[1])
    return AuditEnd(number, found[2] if number else START)
