"""What is sealed and what is not, whose it is, and how a home changes from one to the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    KeyDestroyedError,
    ObjectNotFoundError,
)
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.resealing import (
    drop_keyring,
    plain_keys,
    seal_stored,
    sealed_keys,
    unseal_stored,
)
from catalog_pipeline.stores.sealed import KINDS, SealedObjectStore
from catalog_pipeline.stores.sealing import MAGIC
from tests.builders import NIGHT, make_archive_row
from tests.stores.conftest import plain_location
from tests.stores.sealed_location import SealedLocation, new_master_key

STAGING = "collections/default/staging/mug-0.safetensors"
SEALED = (
    "collections/default/parts/" + "0" * 64 + ".safetensors",
    STAGING,
    "collections/鞄/quarantine/mug-0/pictures.png",
    "catalog/anchors/mug.json",
    "_staging/dt=2026-03-01/x.arrow",
)
PLAIN = (
    "catalog/index.parquet",
    "collections/default/HEAD.json",
    "collections/default/LEASE.json",
    "collections/default/claims/mug.json",
    "collections/default/versions/0.json",
    "collections/default/pages/0.json",
    "base/0/backdrops-0.safetensors",
    "manifest/dt=2026-03-01/part-0.parquet",
    "_versions/manifest/dt=2026-03-01/0.parquet",
    "quarantine/dt=2026-03-01/part-0.parquet",
    "plans/dt=2026-03-01/plan.json",
    "reports/gallery.html",
)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> SealedLocation:
    """As a home has it: what shows products is sealed, pictures too."""
    where = asdict(plain_location(request, tmp_path))
    return SealedLocation(**where, master=new_master_key(tmp_path), kinds=KINDS.pattern)


@pytest.fixture
def sealed(objects: ObjectStore) -> SealedObjectStore:
    assert isinstance(objects, SealedObjectStore)
    return objects


def without_pictures(sealed: SealedObjectStore) -> SealedObjectStore:
    return SealedObjectStore(sealed.backend, sealed.keyring, pictures=False)


def test_what_shows_products_is_sealed_and_nothing_else(sealed: SealedObjectStore) -> None:
    content = b"\x10\0\0\0\0\0\0\0{safetensors} \x89PNG"
    for key in (*SEALED[1:], *PLAIN):
        sealed.put(key, content)
        assert sealed.read(key).data == content
        assert sealed.is_sealed(key) == (key in SEALED)
    for key in SEALED[1:]:
        stored = sealed.backend.read(f"{key}.sealed").data
        assert stored.startswith(MAGIC)
        assert b"safetensors" not in stored
        assert not sealed.backend.exists(key)
        assert sealed.path(key) is None
        assert sealed.uri(key) == sealed.backend.uri(f"{key}.sealed")
    for key in PLAIN:
        assert sealed.backend.read(key).data == content
        assert (sealed.path(key), sealed.uri(key)) == (
            sealed.backend.path(key),
            sealed.backend.uri(key),
        )
    assert sealed.list("") == sorted((*SEALED[1:], *PLAIN))
    assert "keys" in sealed.backend.folders("")
    assert "keys" not in sealed.folders("")
    assert sealed.folders("collections/") == ["default", "鞄"]
    assert sealed.missing_keys([*SEALED, *PLAIN, "x"]) == [SEALED[0], "x"]


def test_pictures_are_sealed_where_that_is_set_and_read_in_any_case(
    sealed: SealedObjectStore,
) -> None:
    open_ones = without_pictures(sealed)
    (secret, _), (shown, _) = (
        ImageArchive(sealed).put_image(b"\x89PNG secret", ["mug"]),
        ImageArchive(open_ones).put_image(b"\x89PNG shown", ["mug"]),
    )
    assert sealed.backend.exists(f"{secret}.sealed")
    assert sealed.backend.exists(shown)
    for store in (sealed, open_ones):
        assert ImageArchive(store).read_image(secret) == b"\x89PNG secret"
        assert ImageArchive(store).read_image(shown) == b"\x89PNG shown"
        assert store.list("images/") == sorted((secret, shown))
        assert store.missing_keys([secret, shown]) == []
    # The same picture again stays as it is, whatever is set now.
    ImageArchive(open_ones).put_image(b"\x89PNG secret", ["mug"])
    assert not sealed.backend.exists(secret)
    assert (sealed.path(shown), open_ones.path(shown)) == (None, sealed.backend.path(shown))


def test_destroying_a_key_takes_what_is_of_its_product_and_what_it_shares(
    sealed: SealedObjectStore,
) -> None:
    store, archive = AdapterStore(sealed, "default"), ImageArchive(sealed)
    mug, cup = store.write_part(b"a mug", "mug"), store.write_part(b"a cup", "cup")
    common = store.write_part(b"of all")
    store.write_staging("mug-0.safetensors", b"half a mug", "mug")
    pair, _ = archive.put_image(b"\x89PNG both", ["mug", "cup"])
    alone, digest = archive.put_image(b"\x89PNG cup", ["cup"])
    assert sealed.keyring.destroy("mug")
    for key in (f"{store.folder}parts/{mug}.safetensors", pair):
        with pytest.raises(KeyDestroyedError, match="cannot be read any more"):
            sealed.read(key)
        assert sealed.exists(key)
    assert store.read_staging("mug-0.safetensors") is None
    assert (store.read_part(cup), store.read_part(common)) == (b"a cup", b"of all")
    assert archive.read_image(alone) == b"\x89PNG cup"
    row = make_archive_row("x", "mug", "cup", path=pair, sha256=sha256_hex(b"\x89PNG both"))
    archive.publish_day(NIGHT, [row], ["x"])
    (problem,) = archive.verify_day(NIGHT)
    assert problem.startswith("row x: ")
    assert "was destroyed" in problem
    # Learned again, it has another key, also over the very bytes of before.
    assert store.write_part(b"a mug", "mug") == mug
    store.write_staging("mug-0.safetensors", b"half a new mug", "mug")
    assert store.read_part(mug) == b"a mug"
    assert store.read_staging("mug-0.safetensors") == b"half a new mug"
    assert digest == sha256_hex(b"\x89PNG cup")


def test_bytes_of_two_products_are_read_while_one_of_them_has_its_key(
    sealed: SealedObjectStore,
) -> None:
    store = AdapterStore(sealed, "default")
    for sku in ("mug", "cup", "mug"):
        part = store.write_part(b"the very same weights", sku)
    key = f"{store.folder}parts/{part}.safetensors"
    once = sealed.backend.read(f"{key}.sealed").version
    store.write_part(b"the very same weights", "cup")
    assert sealed.backend.read(f"{key}.sealed").version == once
    sealed.keyring.destroy("mug")
    assert store.read_part(part) == b"the very same weights"
    store.write_part(b"the very same weights", "bowl")
    sealed.keyring.destroy("cup")
    assert store.read_part(part) == b"the very same weights"
    sealed.keyring.destroy("bowl")
    with pytest.raises(KeyDestroyedError):
        store.read_part(part)


def test_two_products_that_store_the_same_bytes_at_once_both_own_them(
    sealed: SealedObjectStore,
) -> None:
    store = AdapterStore(sealed, "default")
    skus = [f"sku-{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        (part,) = set(pool.map(lambda sku: store.write_part(b"the same", sku), skus))
    for sku in skus:
        assert store.read_part(part) == b"the same"
        sealed.keyring.destroy(sku)
    with pytest.raises(KeyDestroyedError):
        store.read_part(part)


def test_one_flipped_byte_is_named_and_healed(sealed: SealedObjectStore) -> None:
    store = AdapterStore(sealed, "default")
    part = store.write_part(b"weights of a mug", "mug")
    form = f"{store.folder}parts/{part}.safetensors.sealed"
    good = sealed.backend.read(form).data
    for at in (0, 12, 40, 80, len(good) - 1):
        sealed.backend.put(form, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(IntegrityError, match=part):
            store.read_part(part)
    assert store.write_part(b"weights of a mug", "mug") == part
    assert store.read_part(part) == b"weights of a mug"


def test_a_sealed_object_under_another_name_is_refused(sealed: SealedObjectStore) -> None:
    sealed.for_skus("mug").put(STAGING, b"of a mug")
    stored = sealed.backend.read(f"{STAGING}.sealed").data
    other = STAGING.replace("mug-0", "mug-1")
    sealed.backend.put(f"{other}.sealed", stored)
    with pytest.raises(IntegrityError, match=r"mug-1.*was copied from another key"):
        sealed.read(other)


def test_a_part_whose_content_is_not_its_name_is_refused(sealed: SealedObjectStore) -> None:
    sealed.put(SEALED[0], b"something else")
    with pytest.raises(IntegrityError, match="hashes to"):
        sealed.read(SEALED[0])


def test_what_is_plain_yet_is_read_until_it_is_written_again(sealed: SealedObjectStore) -> None:
    old = sealed.backend.put(STAGING, b"before encryption")
    stored = sealed.read(STAGING)
    assert stored.data == b"before encryption"
    assert sealed.info(STAGING).size_bytes == len(b"before encryption")
    assert sealed.list("collections/") == [STAGING]
    assert not sealed.put_if_absent(STAGING, b"x")
    with pytest.raises(ConflictError):
        sealed.compare_and_swap(STAGING, b"x", None)
    with pytest.raises(ConflictError):
        sealed.compare_and_swap(STAGING, b"x", "plain of another time")
    assert sealed.backend.read(STAGING).version == old
    version = sealed.compare_and_swap(STAGING, b"after", stored.version)
    assert not sealed.backend.exists(STAGING)
    with pytest.raises(ConflictError):
        sealed.compare_and_swap(STAGING, b"x", stored.version)
    assert sealed.compare_and_swap(STAGING, b"later", version) != version
    sealed.backend.put(STAGING, b"of a process with the old settings")
    assert sealed.read(STAGING).data == b"later"
    sealed.put(STAGING, b"last")
    assert sealed.backend.list("collections/") == [f"{STAGING}.sealed"]


def test_plain_content_that_is_used_again_stays_plain_and_becomes_young(
    sealed: SealedObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AdapterStore(sealed.backend, "default")
    part = store.write_part(b"weights")
    key = f"{store.folder}parts/{part}.safetensors"
    AdapterStore(sealed, "default").write_part(b"weights", "mug")
    monkeypatch.setattr("catalog_pipeline.stores.objects.REWRITTEN_AFTER", timedelta(hours=-1))
    AdapterStore(sealed, "default").write_part(b"weights", "mug")
    # Whoever else owns it is not known here; `encrypt` finds that out.
    assert sealed.backend.list(store.folder) == [key]


def test_both_forms_of_an_object_go_together(sealed: SealedObjectStore) -> None:
    def both() -> None:
        sealed.put(STAGING, b"new")
        sealed.backend.put(STAGING, b"left by a kill")

    later = datetime.now(UTC) + timedelta(hours=1)
    both()
    assert [info.key for info in sealed.scan("collections/")] == [STAGING]
    sealed.delete(STAGING)
    assert not sealed.exists(STAGING)
    both()
    assert not sealed.delete_if_older(STAGING, later - timedelta(hours=2))
    assert sealed.delete_if_older(STAGING, later)
    assert not sealed.delete_if_older(STAGING, later)
    assert sealed.backend.list("collections/") == []
    with pytest.raises(ObjectNotFoundError):
        sealed.read(STAGING)


def test_a_home_is_sealed_and_unsealed_object_by_object(sealed: SealedObjectStore) -> None:
    plain = AdapterStore(sealed.backend, "default")
    part = plain.write_part(b"of two")
    rotten = f"{plain.folder}parts/{'0' * 64}.safetensors"
    picture, _ = ImageArchive(sealed.backend).put_image(b"\x89PNG", [])
    sealed.backend.put(rotten, b"rotten")
    sealed.put(STAGING, b"sealed already")
    key = f"{plain.folder}parts/{part}.safetensors"
    assert plain_keys(sealed) == [rotten, key, picture]
    assert plain_keys(without_pictures(sealed)) == [rotten, key]
    owners = {key: [["mug"], ["cup"]], picture: [["mug", "cup"]]}
    for name, skus in owners.items():
        assert seal_stored(sealed, name, skus)
        assert not seal_stored(sealed, name, skus)
    with pytest.raises(IntegrityError):
        seal_stored(sealed, rotten, [])
    assert (plain_keys(sealed), sealed_keys(sealed.backend)) == ([rotten], [key, STAGING, picture])
    # A kill between the two steps, and one over what opens no more.
    sealed.backend.put(key, b"of two")
    assert seal_stored(sealed, key, [["bowl"]])
    sealed.keyring.destroy("bowl")
    assert sealed.read(key).data == b"of two"
    sealed.keyring.destroy("mug")
    with pytest.raises(KeyDestroyedError):
        sealed.read(picture)
    sealed.keyring.destroy("cup")
    sealed.backend.put(key, b"of two")
    assert seal_stored(sealed, key, [["cup"]])
    assert sealed.read(key).data == b"of two"
    for name in (key, STAGING):
        assert unseal_stored(sealed, name)
        assert not unseal_stored(sealed, name)
    assert sealed.backend.read(key).data == b"of two"
    with pytest.raises(KeyDestroyedError):
        unseal_stored(sealed, picture)
    assert sealed_keys(sealed.backend) == [picture]
    drop_keyring(sealed.backend)
    assert sealed.backend.list("keys/") == []


def test_readers_beside_a_change_of_form_miss_nothing(sealed: SealedObjectStore) -> None:
    keys = [f"collections/default/staging/mug-{number}.safetensors" for number in range(4)]
    for key in keys:
        sealed.put(key, key.encode())
    done: list[bool] = []

    def change() -> None:
        for _ in range(3):
            for key in keys:
                unseal_stored(sealed, key)
            for key in keys:
                seal_stored(sealed, key, [["mug"]])
        done.append(True)

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        while not changing.done():
            for key in keys:
                assert sealed.read(key).data == key.encode()
                assert sealed.exists(key)
            assert sealed.missing_keys(keys) == []
    changing.result()
    assert done


def test_a_staged_shard_is_read_as_rows(sealed: SealedObjectStore) -> None:
    archive = ImageArchive(sealed)
    path, digest = archive.put_image(b"\x89PNG a", ["mug"])
    row = make_archive_row("a", "mug", path=path, sha256=digest)
    archive.stage(NIGHT, "shard", [row])
    (form,) = sealed.backend.list("_staging/")
    assert form.endswith(".arrow.sealed")
    assert archive.staged(NIGHT) == [row]
    assert archive.staged_days() == [NIGHT]
    archive.publish_day(NIGHT, [replace(row)], ["a"])
    archive.clear_staging(NIGHT)
    assert sealed.backend.list("_staging/") == []


def test_what_is_remembered_is_in_no_byte_of_the_folder(tmp_path: Path) -> None:
    location = SealedLocation(
        root=str(tmp_path / "home"), master=new_master_key(tmp_path), kinds=KINDS.pattern
    )
    import numpy as np

    features = np.full((3, 8), 8**-0.5, np.float32)
    store = AdapterStore(location.open(), "default")
    entry = MemoryEntry("SKU-OF-SPRING", ("a photo",), features)
    part = store.write_part(encode_memory(entry), "SKU-OF-SPRING")
    store.write_staging("x", b"SKU-OF-SPRING half learned", "SKU-OF-SPRING")
    found = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(found) >= 4
    for path in found:
        for text in (b"SKU-OF-SPRING", features.tobytes(), b'{"__metadata__"'):
            assert text not in path.read_bytes(), path
            assert text not in path.name.encode()
    assert store.read_part(part) == encode_memory(entry)
