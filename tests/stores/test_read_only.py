"""Who has no master key: reads what is open, and writes only where nothing can be encrypted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog_pipeline.errors import AccessDeniedError, KeyringError, StoreError
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import StoredObject
from catalog_pipeline.stores.wrapping_keys import KEYRING_KEY, KEYS_PREFIX, without_keyring


class Refusing(LocalObjectStore):
    """Answers every look at a key with an error."""

    def __init__(self, root: Path, error: StoreError) -> None:
        super().__init__(root)
        self.error = error

    def read(self, key: str) -> StoredObject:
        if key.startswith(KEYS_PREFIX):
            raise self.error
        return super().read(key)


def test_a_home_that_is_not_encrypted_is_opened_as_it_is(tmp_path: Path) -> None:
    objects = LocalObjectStore(tmp_path)
    assert without_keyring(objects) is objects
    objects.put(KEYRING_KEY, b"{}")
    with pytest.raises(KeyringError, match="says that this home is encrypted"):
        without_keyring(objects)


def test_a_passing_refusal_is_no_sign_that_nothing_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the server is away"):
        without_keyring(Refusing(tmp_path, StoreError("the server is away")))


def test_who_may_not_look_at_keys_reads_and_writes_nothing(tmp_path: Path) -> None:
    there = LocalObjectStore(tmp_path)
    there.put("images/a.png", b"picture")
    objects = without_keyring(Refusing(tmp_path, AccessDeniedError("no rights")))
    assert objects.read("images/a.png").data == b"picture"
    assert (objects.exists("images/a.png"), objects.info("images/a.png").size_bytes) == (True, 7)
    assert objects.list("") == ["images/a.png"] == [info.key for info in objects.scan("images/")]
    assert (objects.folders(""), objects.missing_keys(["b"])) == (["images"], ["b"])
    assert (objects.uri("b"), objects.path("b")) == (there.uri("b"), there.path("b"))
    assert list(objects.temporaries()) == []
    for write in (
        lambda: objects.put("a", b""),
        lambda: objects.put_if_absent("a", b""),
        lambda: objects.compare_and_swap("a", b"", None),
        lambda: objects.put_content("a", b""),
        lambda: objects.delete("images/a.png"),
        lambda: objects.delete_many(["images/a.png"]),
        lambda: objects.delete_if_older("images/a.png", datetime.max.replace(tzinfo=UTC)),
        lambda: AdapterStore(objects, "default").write_part(b"weights", "mug"),
    ):
        with pytest.raises(AccessDeniedError, match=r"is not known \(no rights\); give this"):
            write()
    assert there.list("") == ["images/a.png"]


def test_a_file_that_may_not_be_read_is_told_from_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])

    def failing(self: Path) -> bytes:
        raise next(failures)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(AccessDeniedError, match=r"cannot read .*: Permission denied"):
        LocalObjectStore(tmp_path).read("a")
    with pytest.raises(StoreError, match=r"cannot read .*: Input/output error") as told:
        LocalObjectStore(tmp_path).read("a")
    assert not isinstance(told.value, AccessDeniedError)
