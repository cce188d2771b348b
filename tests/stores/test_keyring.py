"""Data keys: made once, found again, destroyed for good, and given another master key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from catalog_pipeline.errors import (
    IntegrityError,
    KeyDestroyedError,
    KeyringError,
    StoreError,
)
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.master_key import FileMasterKey, open_master_key
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.wrapping_keys import KEYRING_KEY, KEYS_PREFIX
from tests.kms_server import running_kms_server
from tests.stores.store_processes import Location

OLD, NEW, OTHER = (FileMasterKey(bytes([n]) * 32, f"file:key-{n}") for n in (1, 2, 3))


class PowerCutError(BaseException):
    """The process is gone."""


class FailingStore(LocalObjectStore):
    """Dies before, or after, its ``at``-th write; counts the writes."""

    def __init__(self, root: Path, at: int = -1, *, after: bool = False) -> None:
        super().__init__(root)
        self.at, self.after, self.writes = at, after, 0

    def _write(self, write: Callable[[], object]) -> object:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise PowerCutError
        done = write()
        if self.writes == self.at:
            raise PowerCutError
        return done

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return bool(self._write(lambda: super(FailingStore, self).put_if_absent(key, data)))

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        swap = super().compare_and_swap
        if expected is None:
            return swap(key, data, expected)
        return str(self._write(lambda: swap(key, data, expected)))


def test_a_key_is_made_once_and_found_by_everybody(objects: ObjectStore) -> None:
    keyring = Keyring(objects, OLD)
    assert not keyring.open()
    assert objects.list("") == []
    mug, cup, home = keyring.data_key("MUG-01"), keyring.data_key("CUP-01"), keyring.home_key()
    assert len({key.secret for key in (mug, cup, home)}) == 3
    other = Keyring(objects, OLD)
    assert other.open()
    assert (other.data_key("MUG-01"), other.home_key()) == (mug, home)
    assert Keyring(objects, OLD).find(cup.reference) == cup
    assert other.count() == 3
    stored = b"".join(key.encode() + objects.read(key).data for key in objects.list(KEYS_PREFIX))
    for secret in (b"MUG", b"CUP", mug.secret, mug.secret.hex().encode()):
        assert secret not in stored
    assert mug.secret.hex() not in repr(mug)


def test_of_racing_writers_one_makes_the_key_and_all_use_it(objects: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: Keyring(objects, OLD).data_key("mug"), range(8)))
    assert len(set(keys)) == 1
    assert len(objects.list(KEYS_PREFIX)) == 2
    objects.delete_many(objects.list(KEYS_PREFIX))
    one = Keyring(objects, OLD)  # and the threads of one process
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: one.data_key("mug"), range(8)))
    assert set(keys) == {Keyring(objects, OLD).data_key("mug")}
    assert len(objects.list(KEYS_PREFIX)) == 2


def test_a_destroyed_key_is_gone_and_a_new_one_is_another(objects: ObjectStore) -> None:
    keyring = Keyring(objects, OLD)
    assert not keyring.destroy("mug")
    assert objects.list("") == []
    first, cup = keyring.data_key("mug"), keyring.data_key("cup")
    assert keyring.destroy("mug")
    assert not keyring.destroy("mug")
    for ring in (keyring, Keyring(objects, OLD)):
        with pytest.raises(KeyDestroyedError, match=first.reference.key_id.hex()):
            ring.find(first.reference)
    second = keyring.data_key("mug")
    assert second.reference.key_id == first.reference.key_id
    assert second.reference.generation != first.reference.generation
    assert second.secret != first.secret
    with pytest.raises(KeyDestroyedError):
        Keyring(objects, OLD).find(first.reference)
    assert Keyring(objects, OLD).data_key("cup") == cup


def test_a_key_that_another_process_destroyed_is_not_written_with(objects: ObjectStore) -> None:
    keyring = Keyring(objects, OLD)
    first = keyring.data_key("mug")
    Keyring(objects, OLD).destroy("mug")
    assert keyring.data_key("mug") != first
    assert keyring.data_key("mug") == Keyring(objects, OLD).data_key("mug")


def test_another_master_key_is_refused_by_name(objects: ObjectStore) -> None:
    Keyring(objects, OLD).data_key("mug")
    stranger = Keyring(objects, NEW)
    for use in (stranger.open, stranger.home_key, lambda: stranger.destroy("mug")):
        with pytest.raises(KeyringError, match=f"opens with {OLD.name}, and file:key-2 is"):
            use()


def test_a_keyring_that_is_not_there_is_never_made_anew_over_what_needs_it(
    objects: ObjectStore,
) -> None:
    keyring = Keyring(objects, OLD)
    mug = keyring.data_key("mug")
    saved = objects.read(KEYRING_KEY).data
    objects.delete(KEYRING_KEY)
    lost = Keyring(objects, OLD)
    with pytest.raises(KeyringError, match=r"is not there, but keys/\w+.json and 0 more"):
        lost.data_key("cup")
    with pytest.raises(KeyringError, match="restore keys/ from a backup"):
        lost.find(mug.reference)
    objects.delete_many(objects.list(KEYS_PREFIX))
    with pytest.raises(KeyringError, match="is not there, and without it nothing"):
        Keyring(objects, OLD).find(mug.reference)
    objects.put("collections/default/parts/0.safetensors.sealed", b"")
    with pytest.raises(KeyringError, match=r"but collections/default/parts/0"):
        Keyring(objects, OLD).home_key()
    objects.put(KEYRING_KEY, saved)
    assert Keyring(objects, OLD).home_key()


def test_a_keyring_that_was_made_anew_is_not_mistaken_for_the_old_one(local: Location) -> None:
    objects = local.open()
    keyring = Keyring(objects, OLD)
    keyring.data_key("mug")
    objects.delete_many(objects.list(KEYS_PREFIX))
    Keyring(objects, OLD).data_key("cup")
    for use in (lambda: keyring.data_key("mug"), lambda: keyring.destroy("cup")):
        with pytest.raises(KeyringError, match="made anew since this process opened it"):
            use()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"{}", "is corrupted"),
        (lambda content: b"\xff", "is corrupted"),
        (lambda content: json.dumps(content | {"schema_version": 9}).encode(), "reads up to 1"),
        (
            lambda content: json.dumps({**content, "naming": {}}).encode(),
            "KeyError",
        ),
        (lambda content: json.dumps({**content, "wrapping_keys": 3}).encode(), "is corrupted"),
        (lambda content: swapped(content), "is corrupted: it does not open"),
    ],
)
def test_a_damaged_keyring_is_named(
    local: Location, damage: Callable[[dict], bytes], message: str
) -> None:
    objects = local.open()
    Keyring(objects, OLD).home_key()
    objects.put(KEYRING_KEY, damage(json.loads(objects.read(KEYRING_KEY).data)))
    with pytest.raises(StoreError, match=message):
        Keyring(objects, OLD).open()


def swapped(content: dict) -> bytes:
    """The naming key's text in the place of the wrapping key's."""
    wraps = content["wrapping_keys"][content["current"]]
    wraps[OLD.name]["wrapped"] = content["naming"]["wrapped"]
    return json.dumps(content).encode()


def test_a_damaged_data_key_is_named_and_is_no_destroyed_one(local: Location) -> None:
    objects = local.open()
    keyring = Keyring(objects, OLD)
    mug, cup = keyring.data_key("mug"), keyring.data_key("cup")
    files = {key.reference: f"{KEYS_PREFIX}{key.reference.key_id.hex()}.json" for key in (mug, cup)}
    right = objects.read(files[mug.reference]).data
    content = json.loads(right)
    for damaged, message in (
        (objects.read(files[cup.reference]).data, "does not open"),  # another's file
        (json.dumps({**content, "generation": "xyz"}).encode(), "is corrupted"),
        (json.dumps({**content, "wrapping_key": "0" * 16}).encode(), "wrapped by the key 0000"),
        (right[: len(right) // 2], files[mug.reference]),
    ):
        objects.put(files[mug.reference], damaged)
        with pytest.raises(IntegrityError, match=message):
            Keyring(objects, OLD).find(mug.reference)
        with pytest.raises(IntegrityError):
            Keyring(objects, OLD).data_key("mug")


def test_a_rotation_leaves_every_data_key_and_the_new_master_key_alone(
    objects: ObjectStore,
) -> None:
    keyring = Keyring(objects, OLD)
    before = [keyring.data_key(name) for name in ("mug", "cup")]
    copy = {key: objects.read(key).data for key in objects.list(KEYS_PREFIX)}
    assert keyring.rewrap(NEW) == 2
    assert keyring.masters() == {NEW.name}
    assert keyring.data_key("bowl") == Keyring(objects, NEW).data_key("bowl")
    assert [Keyring(objects, NEW).data_key(name) for name in ("mug", "cup")] == before
    with pytest.raises(KeyringError, match=f"opens with {NEW.name}"):
        Keyring(objects, OLD).open()
    # A copy of a data key from before the rotation opens with the old master key alone.
    file = f"{KEYS_PREFIX}{before[0].reference.key_id.hex()}.json"
    keyring.destroy("mug")
    objects.put(file, copy[file])
    with pytest.raises(IntegrityError, match=r"which keys/keyring\.json does not hold"):
        Keyring(objects, NEW).data_key("mug")
    for key, data in copy.items():
        objects.put(key, data)
    assert Keyring(objects, OLD).data_key("mug") == before[0]


def test_a_rotation_killed_anywhere_goes_on(tmp_path: Path) -> None:
    names = ("mug", "cup", "bowl")
    for after in (False, True):
        at = 0
        while True:
            at += 1
            root = tmp_path / f"{after}-{at}"
            before = [Keyring(LocalObjectStore(root), OLD).data_key(name) for name in names]
            failing = FailingStore(root, at, after=after)
            try:
                assert Keyring(failing, OLD).rewrap(NEW) == len(names)
                break
            except PowerCutError:
                pass
            objects = LocalObjectStore(root)
            openers = [m for m in (OLD, NEW) if m.name in Keyring(objects, OLD).masters()]
            assert openers
            for master in openers:
                ring = Keyring(objects, master)
                assert [ring.data_key(name) for name in names] == before
            beside = Keyring(objects, openers[0]).data_key("made meanwhile")
            Keyring(objects, OLD).rewrap(NEW)
            assert [Keyring(objects, NEW).data_key(name) for name in names] == before
            assert Keyring(objects, NEW).data_key("made meanwhile") == beside
            with pytest.raises(KeyringError):
                Keyring(objects, OLD).open()
            assert Keyring(objects, OLD).rewrap(NEW) == 0
        assert at == len(names) + 3  # begun, each key, ended; one more finds nothing to kill


@pytest.mark.parametrize("ended", [False, True])
def test_a_key_that_is_made_while_the_master_key_changes_is_not_lost(
    tmp_path: Path, ended: bool
) -> None:
    class Rotating(LocalObjectStore):
        """Another process changes the master key just before this one's key is there."""

        def put_if_absent(self, key: str, data: bytes) -> bool:
            if not rotated:
                rotated.append(key)
                with suppress(PowerCutError):
                    Keyring(FailingStore(tmp_path, -1 if ended else 1, after=True), OLD).rewrap(NEW)
            return super().put_if_absent(key, data)

    rotated: list[str] = []
    objects = LocalObjectStore(tmp_path)
    Keyring(objects, OLD).home_key()
    writer = Keyring(Rotating(tmp_path), OLD)
    writer.open()
    if ended:
        with pytest.raises(KeyringError, match=f"opens with {NEW.name}"):
            writer.data_key("mug")  # its settings are out of date
        assert Keyring(objects, NEW).data_key("mug")
    else:
        mug = writer.data_key("mug")
        assert Keyring(objects, OLD).rewrap(NEW) == 1
        assert Keyring(objects, NEW).data_key("mug") == mug
    assert rotated


def test_a_rotation_is_ended_before_another_begins(tmp_path: Path) -> None:
    objects = LocalObjectStore(tmp_path)
    with pytest.raises(KeyringError, match="nothing is encrypted yet"):
        Keyring(objects, OLD).rewrap(NEW)
    mug = Keyring(objects, OLD).data_key("mug")
    with pytest.raises(KeyringError, match="is the master key already"):
        Keyring(objects, OLD).rewrap(OLD)
    with pytest.raises(PowerCutError):
        Keyring(FailingStore(tmp_path, 1, after=True), OLD).rewrap(NEW)
    assert Keyring(objects, NEW).masters() == {OLD.name, NEW.name}
    with pytest.raises(KeyringError, match="has not ended; end it before"):
        Keyring(objects, OLD).rewrap(OTHER)
    # The settings may name the new one already; and the old one calls the rotation off.
    assert Keyring(objects, NEW).rewrap(OLD) == 1
    assert Keyring(objects, OLD).data_key("mug") == mug
    with pytest.raises(KeyringError):
        Keyring(objects, NEW).open()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    with running_kms_server("alias/catalog") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_a_key_service_is_asked_once_a_process(tmp_path: Path, service) -> None:
    objects = LocalObjectStore(tmp_path)
    mug = Keyring(objects, OLD).data_key("mug")
    assert Keyring(objects, OLD).rewrap(open_master_key("kms:alias/catalog")) == 1
    assert service.calls == {"GenerateDataKey": 2}  # of either wrapping key, until the end
    service.calls.clear()
    keyring = Keyring(objects, open_master_key("kms:alias/catalog"))
    assert keyring.data_key("mug") == mug
    for number in range(5):
        keyring.data_key(f"sku-{number}")
    assert service.calls == {"Decrypt": 1}
    service.disabled.add("alias/catalog")
    assert keyring.data_key("sku-1")
    with pytest.raises(KeyringError, match="DisabledException"):
        Keyring(objects, open_master_key("kms:alias/catalog")).open()
