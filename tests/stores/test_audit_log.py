"""The audit log: a chain that shows every change, an end that is cheap to find, writers beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from catalog_pipeline.errors import AuditError, IntegrityError, StoreError
from catalog_pipeline.stores.audit_chain import parse_end, verify_chain
from catalog_pipeline.stores.audit_log import (
    ACTOR_ENV,
    AUDIT_PREFIX,
    HINT_KEY,
    START,
    AuditEnd,
    AuditEntry,
    AuditLog,
    Signature,
    entry_key,
)
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from tests.stores.store_processes import Worker
from tests.stores.test_third_backend import MemoryObjectStore

SIGNED = Signature("ada", "run 1")


def filled(objects: ObjectStore, count: int) -> AuditLog:
    log = AuditLog(objects, SIGNED)
    for number in range(1, count + 1):
        log.append("learn", f"sku-{number}", version=f"v{number}", facts={"n": number})
    return log


def test_entries_are_numbered_signed_and_chained(objects: ObjectStore) -> None:
    log = filled(objects, 3)
    first, second, third = log.read([1, 2, 3])
    assert [entry.previous for entry in (first, second, third)] == [
        START,
        first.sha256,
        second.sha256,
    ]
    assert (third.action, third.subject, third.version, third.facts) == (
        "learn",
        "sku-3",
        "v3",
        {"n": 3},
    )
    assert third.signed == SIGNED
    data = objects.read(entry_key(3)).data
    assert sha256_hex(data) == third.sha256 == AuditLog(objects).end().sha256
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() + (
        b"\n"
    )
    report = verify_chain(objects)
    assert (report.problems, report.entries, report.end) == ((), 3, AuditEnd(3, third.sha256))


def test_an_empty_log_is_whole_and_ends_at_nothing(objects: ObjectStore) -> None:
    assert AuditLog(objects).end() == AuditEnd()
    assert verify_chain(objects, AuditEnd()).problems == ()
    assert list(AuditLog(objects).newest_first()) == []


def test_racing_writers_all_get_their_entry_and_the_chain_holds(objects: ObjectStore) -> None:
    def write(writer: int) -> None:
        log = AuditLog(objects, Signature(f"writer {writer}"))
        for number in range(4):
            log.append("publish", f"{writer}-{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    report = verify_chain(objects)
    assert (report.problems, report.entries) == ((), 24)
    subjects = [entry.subject for some in AuditLog(objects).newest_first(5) for entry in some]
    assert sorted(subjects) == sorted(f"{w}-{n}" for w in range(6) for n in range(4))


def test_a_writer_that_dies_leaves_a_chain_that_goes_on(
    objects: ObjectStore, start: Callable[..., Worker]
) -> None:
    filled(objects, 2)
    child = start("note", 100_000)
    while AuditLog(objects).end().number < 5:
        assert child.process.is_alive()
    child.kill()
    after = AuditLog(objects, SIGNED).append("learn", "parent").number
    report = verify_chain(objects)
    assert (report.problems, report.entries) == ((), after)


def rewrite(objects: ObjectStore, number: int, data: bytes) -> None:
    objects.put(entry_key(number), data)


def test_a_flipped_byte_is_found(objects: ObjectStore) -> None:
    filled(objects, 4)
    data = objects.read(entry_key(2)).data
    rewrite(objects, 2, data.replace(b"sku-2", b"sku-9"))
    (problem,) = verify_chain(objects).problems
    assert problem.startswith(f"{entry_key(3)} follows ")
    assert "altered or exchanged" in problem
    rewrite(objects, 2, data.replace(b'"action"', b' "action"'))
    problems = verify_chain(objects).problems
    assert any("not as it was written" in problem for problem in problems)
    rewrite(objects, 2, b"{}")
    assert any("is not an entry" in problem for problem in verify_chain(objects).problems)
    with pytest.raises(IntegrityError):
        AuditLog(objects).read([2])


def test_a_missing_a_swapped_and_a_strange_entry_are_found(objects: ObjectStore) -> None:
    filled(objects, 6)
    second, third = (objects.read(entry_key(number)).data for number in (2, 3))
    rewrite(objects, 2, third)
    rewrite(objects, 3, second)
    problems = verify_chain(objects).problems
    assert sum("entries were swapped or renamed" in problem for problem in problems) == 2
    rewrite(objects, 2, second)
    rewrite(objects, 3, third)
    assert verify_chain(objects).problems == ()
    objects.delete(entry_key(4))
    objects.put(f"{AUDIT_PREFIX}000000/notes.txt", b"mine")
    problems = verify_chain(objects).problems
    assert "entry 4 is missing; restore from a backup what was removed" in problems
    assert any("notes.txt is no entry" in problem for problem in problems)
    # Neither the gap nor what is appended behind it hides anything.
    assert AuditLog(objects, SIGNED).append("learn", "later").number == 7
    assert verify_chain(objects).problems


def test_a_cut_end_shows_against_a_head_that_was_written_down(objects: ObjectStore) -> None:
    kept = filled(objects, 5).end()
    assert verify_chain(objects, kept).problems == ()
    assert verify_chain(objects, replace(kept, sha256=kept.sha256[:8])).problems == ()
    for number in (4, 5):
        objects.delete(entry_key(number))
    assert verify_chain(objects).problems == ()  # nothing in the log itself can tell
    (problem,) = verify_chain(objects, kept).problems
    assert problem.startswith("the log ends with entry 3, and expected was 5: its end was cut off")
    log = AuditLog(objects, SIGNED)
    log.append("learn", "forged")
    log.append("learn", "forged")
    (problem,) = verify_chain(objects, kept).problems
    assert "entry 5 is" in problem
    assert "written anew" in problem


def test_the_hint_keeps_a_cut_end_open(objects: ObjectStore) -> None:
    filled(objects, 17)
    hint = AuditLog(objects).hint()
    assert hint is not None
    assert hint.number == 16
    for number in (15, 16, 17):
        objects.delete(entry_key(number))
    (problem,) = verify_chain(objects).problems
    assert problem.startswith(f"the log ends with entry 14, and {HINT_KEY} says 16")
    assert AuditLog(objects, SIGNED).append("learn", "later").number == 17
    assert "entries 15 to 16 are missing; restore from a backup what was removed" in (
        verify_chain(objects).problems
    )


def test_a_hint_that_lags_or_makes_no_sense_is_only_a_hint(objects: ObjectStore) -> None:
    end = filled(objects, 40).end()
    for hint in (b"{}", b"not json", json.dumps({"number": 3, "sha256": START}).encode()):
        objects.put(HINT_KEY, hint)
        assert AuditLog(objects).end() == end
    objects.delete(HINT_KEY)
    assert AuditLog(objects).end() == end


class Counted(MemoryObjectStore):
    """A log of a million entries, of which the last is stored; counts what is asked of it."""

    size = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        template = AuditLog(MemoryObjectStore(), SIGNED).append("learn", "x")
        self.put(entry_key(self.size), replace(template, number=self.size).encode())

    def exists(self, key: str) -> bool:
        self.asked += 1
        if not key.startswith(AUDIT_PREFIX):
            return super().exists(key)
        return int(key.rpartition("/")[2].removesuffix(".json")) <= self.size or super().exists(key)

    def list(self, prefix: str) -> list[str]:
        raise AssertionError("finding the end lists nothing")


def test_the_end_of_a_million_entries_is_found_in_a_few_looks() -> None:
    objects = Counted()
    log = AuditLog(objects, SIGNED)
    assert log.append("learn", "a").number == objects.size + 1
    assert objects.asked <= 45
    objects.asked = 0
    assert log.append("learn", "b").number == objects.size + 2
    assert objects.asked == 1
    objects.put(HINT_KEY, json.dumps({"number": objects.size - 9, "sha256": START}).encode())
    objects.asked = 0
    assert AuditLog(objects, SIGNED).append("learn", "c").number == objects.size + 3
    assert objects.asked <= 10


def test_who_acts_is_named_by_the_environment_or_the_system(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    assert AuditLog(objects).append("learn", "a").signed == Signature("grace", "")
    monkeypatch.setenv(ACTOR_ENV, " night watch ")
    assert AuditLog(objects).append("learn", "b").signed.actor == "night watch"


class RefusingStore(LocalObjectStore):
    """A folder with no room for the log."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key.startswith(AUDIT_PREFIX):
            raise StoreError(f"cannot write {key}: no room")
        return super().put_if_absent(key, data)


def test_a_store_that_refuses_an_entry_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    log = AuditLog(RefusingStore(tmp_path), SIGNED)
    with pytest.raises(AuditError, match=r"'publish' of 2026-03-01: cannot write .* run the same"):
        log.append("publish", "2026-03-01")
    assert verify_chain(LocalObjectStore(tmp_path)).entries == 0
    assert AuditLog(LocalObjectStore(tmp_path), SIGNED).append("publish", "2026-03-01").number == 1


def test_an_entry_of_a_newer_release_is_said_to_be_one(objects: ObjectStore) -> None:
    filled(objects, 1)
    data = objects.read(entry_key(1)).data.replace(b'"schema_version":1', b'"schema_version":2')
    with pytest.raises(StoreError, match="upgrade catalog-pipeline"):
        AuditEntry.decode(data, "it")


@pytest.mark.parametrize("text", ["", "5", "5:", "5:xyz", "-1:00000000", "5:0000000"])
def test_an_end_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected NUMBER:HASH"):
        parse_end(text)
