"""Encryption switched on, off and given another key over a home that is there already."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from catalog_pipeline.cli import app
from catalog_pipeline.errors import (
    ConfigurationError,
    KeyDestroyedError,
    KeyringError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.records import part_owner
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.adapters import version_hash
from catalog_pipeline.stores.keys import SEALED_SUFFIX
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.master_key import open_master_key
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.gallery import write_gallery
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.doctor_encryption import check_encryption
from catalog_pipeline.workflows.upkeep.encryption import (
    decrypt_home,
    encrypt_home,
    encryption_state,
    rotate_master_key,
)
from catalog_pipeline.workflows.upkeep.export_objects import export_objects
from catalog_pipeline.workflows.upkeep.remove_concept import remove_concepts
from catalog_pipeline.workflows.upkeep.verify import verify
from tests.builders import promote
from tests.stores.sealed_location import new_master_key
from tests.workflows.painted_night import DAY, PowerCutError, Studio

QUARANTINED = "collections/default/quarantine/mug-0123456789abcdef/pictures.png"
CLOSED = re.compile(
    r"(collections/[^/]+/(parts|staging|quarantine)|images|_staging|catalog/anchors)/"
)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def studio(request: pytest.FixtureRequest, make_settings: Callable[..., Settings]) -> Studio:
    """A published night of two products, and one of everything else that shows them."""
    archive: dict[str, object] = {}
    if request.param == "s3":
        s3: S3Settings = request.getfixturevalue("s3_settings")
        archive["s3"] = s3.model_dump()
    made = Studio(make_settings(archive=archive)).configured(steps=2)
    made.learn("mug", "00123")
    plan_night(made.home, DAY)
    made.render()
    publish_manifest(made.home, DAY)
    home = made.home
    store = home.adapters("default")
    store.write_staging("mug-0123.safetensors", b"half learned", "mug")
    store.write_part(b"of a run that was killed")
    home.objects.put("catalog/anchors/mug.json", b"{}")
    home.objects.put(QUARANTINED, b"\x89PNG refused")
    home.archive.stage(DAY, "left", home.archive.read_day(DAY)[:1])
    return made


only_local = pytest.mark.parametrize("studio", ["local"], indirect=True)


def with_encryption(settings: Settings, **encryption: Any) -> Settings:
    kind = type(settings.governance.encryption)
    update = {"encryption": kind.model_validate(encryption)}
    return settings.model_copy(update={"governance": settings.governance.model_copy(update=update)})


def encrypted(studio: Studio, folder: Path, *, pictures: bool = True) -> Settings:
    key = new_master_key(folder)
    return with_encryption(studio.settings, master_key=key, pictures=pictures)


def content(home: Home) -> dict[str, bytes]:
    """Every logical object but the audit log, leases and what counts them."""
    found = [key for key in home.objects.list("") if not re.search("HEAD|LEASE|^audit/", key)]
    return {key: home.objects.read(key).data for key in found}


def test_a_home_is_encrypted_and_decrypted_without_a_changed_byte(
    studio: Studio, tmp_path: Path
) -> None:
    before = content(studio.home)
    settings = encrypted(studio, tmp_path)
    state = encryption_state(open_home(settings))
    closed = [key for key in before if CLOSED.match(key)]
    assert (state.plain, state.data_keys, state.masters) == (len(closed), 0, ())
    assert content(open_home(settings)) == before  # what is plain is read
    done = encrypt_home(open_home(settings))
    assert (done.changed, done.problems) == (len(closed), ())
    home = open_home(settings)
    assert content(home) == before
    stored = home.backend.list("")
    assert sorted(key.removesuffix(SEALED_SUFFIX) for key in stored if "seal" in key) == closed
    assert encryption_state(home).plain == 0
    assert encrypt_home(open_home(settings)).changed == 0
    assert verify(home).problems == ()
    assert write_gallery(home, DAY).exists()
    assert collect_garbage(home).garbage == ()
    with pytest.raises(KeyringError, match="this home is encrypted, and"):
        _ = studio.home.objects
    undone = decrypt_home(open_home(settings))
    assert (undone.changed, undone.problems) == (len(closed), ())
    assert studio.home.backend.list("keys/") == []
    after = content(studio.home)
    assert {key: after[key] for key in before} == before


def test_each_object_is_sealed_for_its_owners(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path)
    store = studio.home.adapters("default")
    version = store.current()
    assert version is not None
    # A part of the very same bytes that both products have.
    parts = {**version.parts}
    parts["curve/mug"] = parts["curve/00123"] = store.write_part(b"one curve")
    draft = replace(version, parent=version.version, parts=parts, version="")
    promote(store, replace(draft, version=version_hash(draft)))
    encrypt_home(open_home(settings))
    home = open_home(settings)
    assert home.keyring is not None
    home.keyring.destroy("mug")
    served = home.adapters("default").current()
    assert served is not None
    for name, digest in served.parts.items():
        if part_owner(name) == "mug" and not name.startswith("curve/"):
            with pytest.raises(KeyDestroyedError):
                home.adapters("default").read_part(digest)
        else:
            assert home.adapters("default").read_part(digest)
    for key in ("catalog/anchors/mug.json", QUARANTINED):
        with pytest.raises(KeyDestroyedError):
            home.objects.read(key)
    assert home.adapters("default").read_staging("mug-0123.safetensors") is None
    shows = {row.path: "mug" in row.skus for row in home.archive.read_day(DAY)}
    assert set(shows.values()) == {True, False}
    for path, lost in shows.items():
        if lost:
            with pytest.raises(KeyDestroyedError):
                home.archive.read_image(path)
        else:
            assert home.archive.read_image(path)
    assert len(home.archive.staged(DAY)) == 1
    # What cannot be opened any more keeps the keys, and is named.
    undone = decrypt_home(open_home(settings))
    assert undone.changed > 0
    # Two parts, a checkpoint, a refused candidate, what is known of photos, and pictures.
    assert len(undone.problems) == 5 + sum(shows.values())
    assert all("was destroyed" in problem for problem in undone.problems)
    assert home.backend.exists("keys/keyring.json")


@only_local
@pytest.mark.parametrize("method", ["put_if_absent", "delete"])
def test_a_change_killed_anywhere_is_finished_by_the_next(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    before = content(studio.home)
    settings = encrypted(studio, tmp_path)
    original = getattr(LocalObjectStore, method)
    for at in (1, 3, 9):
        calls = 0

        def dying(self: LocalObjectStore, *arguments: Any, at: int = at) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise PowerCutError
            return original(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(LocalObjectStore, method, dying)
            with pytest.raises(PowerCutError):
                encrypt_home(open_home(settings))
        assert content(open_home(settings)) == before
    assert encrypt_home(open_home(settings)).problems == ()
    assert content(open_home(settings)) == before
    assert encryption_state(open_home(settings)).plain == 0


@only_local
def test_what_nobody_knows_the_owners_of_is_not_guessed(studio: Studio, tmp_path: Path) -> None:
    (record,) = (studio.settings.home / "collections/default/versions").iterdir()
    record.write_bytes(b"rotten")
    with pytest.raises(StoreError, match="nobody knows whose parts"):
        encrypt_home(open_home(encrypted(studio, tmp_path)))


@only_local
def test_a_rotten_object_is_named_and_the_others_are_encrypted(
    studio: Studio, tmp_path: Path
) -> None:
    picture = next(studio.settings.home.glob("images/*.png"))
    picture.write_bytes(b"rotten")
    done = encrypt_home(open_home(encrypted(studio, tmp_path)))
    (problem,) = done.problems
    assert picture.name in problem
    assert done.changed > 5


@only_local
def test_pictures_stay_open_where_that_is_not_set(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path, pictures=False)
    encrypt_home(open_home(settings))
    assert not list(studio.settings.home.glob("images/*.sealed"))
    both = with_encryption(
        settings, master_key=settings.governance.encryption.master_key, pictures=True
    )
    pictures = list(studio.settings.home.glob("images/*.png"))
    assert encrypt_home(open_home(both)).changed == len(pictures)
    assert verify(open_home(settings)).problems == ()  # they are read in any case
    assert decrypt_home(open_home(settings)).problems == ()
    assert sorted(studio.settings.home.glob("images/*")) == sorted(pictures)


@only_local
def test_copies_of_objects_are_written_where_one_asks(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path)
    encrypt_home(open_home(settings))
    copied = export_objects(open_home(settings), "collections/default/qua", tmp_path / "out")
    assert (copied.keys, copied.bytes) == ((QUARANTINED,), len(b"\x89PNG refused"))
    assert (tmp_path / "out" / QUARANTINED).read_bytes() == b"\x89PNG refused"
    for prefix in ("", "keys/", "nothing/"):
        with pytest.raises(ConfigurationError, match="no object of"):
            export_objects(open_home(settings), prefix, tmp_path / "other")
    with pytest.raises(ConfigurationError, match="among what the program stores itself"):
        export_objects(open_home(settings), "images/", settings.home / "keys" / "x")
    assert not (tmp_path / "other").exists()
    (entry,) = matching_entries(open_home(settings), sku="mug", action="export")
    assert entry.subject == str(tmp_path / "out")
    assert entry.facts == {"prefix": "collections/default/qua", "skus": ["mug"], "objects": 1}


@only_local
def test_what_becomes_of_keys_is_noted(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path)
    sealed = encrypt_home(open_home(settings)).changed
    new = new_master_key(tmp_path, "new.key")
    keys = rotate_master_key(open_home(settings), new)
    after = with_encryption(settings, master_key=new, pictures=True)
    home = open_home(after)
    assert home.keyring is not None
    old_name = open_master_key(f"file:{tmp_path}/master.key").name
    new_name = home.keyring.master.name
    decrypt_home(home)
    told = [(e.action, e.subject, e.facts) for e in matching_entries(studio.home)][-3:]
    assert told == [
        ("encrypt", old_name, {"objects": sealed, "left": 0}),
        ("rotate-key", new_name, {"from": old_name, "data_keys": keys}),
        ("decrypt", new_name, {"objects": sealed, "left": 0, "keys_destroyed": True}),
    ]


def told(settings: Settings) -> list[str]:
    """What the doctor says of encryption."""
    return [f"{found.level} {found.what}" for found in check_encryption(open_home(settings))]


def commands(settings: Settings) -> Callable[..., Result]:
    encryption = settings.governance.encryption.model_dump()
    file = settings.config_dir / "governance.yaml"
    options = ["--config", str(settings.config_dir), "--home", str(settings.home)]

    def call(*arguments: str, master_key: str | None = "") -> Result:
        key = encryption["master_key"] if master_key == "" else master_key
        file.write_text(yaml.safe_dump({"encryption": {**encryption, "master_key": key}}))
        return CliRunner().invoke(app, [*arguments, *options])

    return call


@only_local
def test_the_commands_say_what_they_did_and_what_to_do(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path)
    call = commands(settings)
    for command in ("encrypt", "decrypt"):
        refused = call(command, master_key=None)
        assert refused.exit_code == 1
        assert "encryption.master_key is not set" in refused.stderr
    assert told(studio.settings) == [
        "ok encryption: off; whoever reads the home reads what it holds"
    ]
    early = call("rotate-key", "--new", new_master_key(tmp_path, "early"))
    assert (early.exit_code, "nothing is encrypted yet" in early.stderr) == (1, True)
    assert re.search(r"^warning encryption: \d+ objects are still plain$", told(settings)[-1])
    done = call("encrypt")
    assert (done.exit_code, "encrypted" in done.stdout) == (0, True), done.output
    (line,) = told(settings)
    assert line.startswith("ok encryption: on, pictures too, master key file:")
    assert "all hashes are right" in call("verify").stdout

    new = new_master_key(tmp_path, "new.key")
    wrong = call("verify", master_key=new)
    assert (wrong.exit_code, "was made with another master key" in wrong.stderr) == (1, True)
    assert wrong.stderr.count("\n") == 1
    wrong = call("doctor", master_key=new)
    assert (wrong.exit_code, "another master key" in wrong.stdout) == (1, True)
    none = call("status", master_key=None)
    assert (none.exit_code, "this home is encrypted" in none.stderr) == (1, True)

    rotated = call("rotate-key", "--new", new)
    assert rotated.exit_code == 0, rotated.output
    assert "data keys are wrapped by" in rotated.stdout
    assert call("rotate-key", "--new", new).stdout.startswith("0 data keys")
    assert "opens with file:" in call("verify").stderr
    assert "all hashes are right" in call("verify", master_key=new).stdout
    again = call("rotate-key", "--new", new, master_key=new)
    assert "is the master key already" in again.stderr

    shown = call("export-objects", QUARANTINED, "--out", str(tmp_path / "o"), master_key=new)
    assert shown.stdout.splitlines()[0] == QUARANTINED
    undone = call("decrypt", master_key=new)
    assert "now set encryption.master_key" in undone.stdout
    assert "all hashes are right" in call("verify", master_key=None).stdout


@only_local
def test_a_rotation_that_has_not_ended_is_told(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = encrypted(studio, tmp_path)
    encrypt_home(open_home(settings))
    new = new_master_key(tmp_path, "new.key")
    swap, calls = LocalObjectStore.compare_and_swap, []

    def dying(self: LocalObjectStore, *arguments: Any) -> str:
        calls.append(arguments[0])
        if len(calls) == 3:
            raise PowerCutError
        return swap(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(LocalObjectStore, "compare_and_swap", dying)
        with pytest.raises(PowerCutError):
            rotate_master_key(open_home(settings), new)
    other = with_encryption(settings, master_key=new, pictures=True)
    for either in (settings, other):
        assert verify(open_home(either)).problems == ()
        assert "has not ended" in told(either)[-1]
    assert rotate_master_key(open_home(other), new) > 0
    assert encryption_state(open_home(other)).masters == (
        open_home(other).keyring.master.name,  # type: ignore[union-attr]
    )
    with pytest.raises(KeyringError):
        _ = open_home(settings).objects


@only_local
def test_the_errors_of_keys_are_one_line_each(studio: Studio, tmp_path: Path) -> None:
    settings = encrypted(studio, tmp_path)
    encrypt_home(open_home(settings))
    keyring = settings.home / "keys/keyring.json"
    saved = keyring.read_bytes()
    keyring.unlink()
    part = next(iter(studio.home.backend.list("collections/default/parts/")))
    home = open_home(settings)
    with pytest.raises(KeyringError, match="is not there, and without it nothing"):
        home.objects.read(part.removesuffix(SEALED_SUFFIX))
    with pytest.raises(KeyringError, match="restore keys/ from a backup"):
        home.adapters("default").write_part(b"new", "mug")
    keyring.write_bytes(saved)
    with pytest.raises(ObjectNotFoundError, match="nothing is at"):
        open_home(settings).objects.read("collections/default/parts/none.safetensors")
    missing = with_encryption(settings, master_key=f"file:{tmp_path}/gone")
    (error,) = [r for r in run_doctor(open_home(missing)) if r.level == "error"]
    assert "cannot be read: No such file" in error.what
    assert "encryption.md" in error.hint


@only_local
def test_a_removed_product_opens_in_no_backup_that_lacks_the_keys(
    studio: Studio, tmp_path: Path
) -> None:
    settings = encrypted(studio, tmp_path)
    encrypt_home(open_home(settings))
    backup = tmp_path / "backup"
    shutil.copytree(settings.home, backup, ignore=shutil.ignore_patterns("keys", ".locks"))
    keys = encryption_state(open_home(settings)).data_keys
    (removed,) = remove_concepts(open_home(settings), ["mug"], search_pictures=True)
    assert (removed.reason, removed.counts["keys"]) == ("", 1)
    (again,) = remove_concepts(open_home(settings), ["mug"])
    assert (again.reason, again.counts.get("keys", 0)) == ("", 0)
    assert encryption_state(open_home(settings)).data_keys == keys - 1
    assert verify(open_home(settings)).problems == ()
    # Restored beside the keys of today.
    shutil.copytree(settings.home / "keys", backup / "keys")
    old = open_home(settings.model_copy(update={"home": backup}))
    served = old.adapters("default").current()
    assert served is not None
    for name, digest in served.parts.items():
        if part_owner(name) == "mug":
            with pytest.raises(KeyDestroyedError):
                old.adapters("default").read_part(digest)
        else:
            assert old.adapters("default").read_part(digest)
    for row in old.archive.read_day(DAY):
        if "mug" in row.skus:
            with pytest.raises(KeyDestroyedError):
                old.archive.read_image(row.path)
        else:
            assert old.archive.read_image(row.path)
