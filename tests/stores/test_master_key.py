"""Master keys of files and of a key service: what opens, and what is said where nothing does."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_pipeline.errors import ConfigurationError, IntegrityError, KeyringError
from catalog_pipeline.stores.master_key import open_master_key
from tests.kms_server import KmsServer, running_kms_server

SECRET = bytes(range(200, 232))


def key_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "master.key"
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsServer]:
    with running_kms_server("alias/catalog", "alias/other") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper() + "\n",
        base64.b64encode(SECRET).decode() + "\n",
        base64.urlsafe_b64encode(SECRET).decode(),
    ],
)
def test_every_spelling_of_a_key_file_is_one_key(tmp_path: Path, text: str) -> None:
    (tmp_path / "first").mkdir()
    first = open_master_key(key_file(tmp_path / "first", SECRET.hex()))
    other = open_master_key(key_file(tmp_path, text, 0o440))
    assert other.name == first.name
    assert SECRET.hex()[:8] not in first.name
    wrapped = first.wrap(b"k" * 32, "wrapping key 1")
    assert other.unwrap(wrapped, "wrapping key 1") == b"k" * 32
    with pytest.raises(IntegrityError, match="wrapped key of wrapping key 2 is corrupted"):
        other.unwrap(wrapped, "wrapping key 2")


def test_another_key_file_opens_nothing(tmp_path: Path) -> None:
    mine = open_master_key(key_file(tmp_path, SECRET.hex()))
    other = open_master_key(key_file(tmp_path, SECRET[::-1].hex()))
    assert other.name != mine.name
    with pytest.raises(IntegrityError):
        other.unwrap(mine.wrap(b"k" * 32, "x"), "x")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (SECRET.hex(), 0o644, r"has the mode 0644: everybody .* run `chmod 600"),
        (SECRET.hex(), 0o602, r"has the mode 0602"),
        (SECRET.hex()[:-2], 0o600, r"holds 62 characters that are no key; expected 32 random"),
        (base64.b64encode(SECRET + b"x").decode(), 0o600, "that are no key"),
        ("", 0o600, "holds 0 characters"),
        ("wörds", 0o600, "openssl rand -hex 32"),
    ],
)
def test_a_file_that_is_open_to_all_or_no_key_is_refused(
    tmp_path: Path, text: str, mode: int, message: str
) -> None:
    with pytest.raises(KeyringError, match=message) as caught:
        open_master_key(key_file(tmp_path, text, mode))
    assert not text or text[:8] not in str(caught.value)


def test_a_file_that_is_missing_and_a_name_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="cannot be read: No such file"):
        open_master_key(f"file:{tmp_path}/none")
    with pytest.raises(KeyringError, match="cannot be read: Is a directory"):
        open_master_key(f"file:{tmp_path}")
    for wrong in ("master.key", SECRET.hex()):
        with pytest.raises(KeyringError, match="by a relative path") as caught:
            open_master_key(f"file:{wrong}")
        assert wrong not in str(caught.value)
    for wrong in ("master.key", "file:", "kms:", SECRET.hex()):
        with pytest.raises(ConfigurationError, match="neither file:/path/of/key nor") as refused:
            open_master_key(wrong)
        assert SECRET.hex() not in str(refused.value)


def test_a_key_service_wraps_and_unwraps(kms: KmsServer) -> None:
    master = open_master_key("kms:alias/catalog")
    assert kms.calls == {}
    wrapped = master.wrap(b"k" * 32, "wrapping key 1")
    assert open_master_key("kms:alias/catalog").unwrap(wrapped, "wrapping key 1") == b"k" * 32
    assert kms.calls == {"GenerateDataKey": 1, "Decrypt": 1}
    assert not {b"k" * 32} & {base64.b64decode(text) for text in wrapped.values()}
    with pytest.raises(KeyringError, match="InvalidCiphertextException"):
        master.unwrap(wrapped, "wrapping key 2")
    with pytest.raises(KeyringError, match="IncorrectKeyException"):
        open_master_key("kms:alias/other").unwrap(wrapped, "wrapping key 1")
    altered = {**wrapped, "wrapped": base64.b64encode(b"x" * 60).decode()}
    with pytest.raises(IntegrityError, match="is corrupted"):
        master.unwrap(altered, "wrapping key 1")


def test_what_a_key_service_refuses_is_told(
    kms: KmsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyringError, match=r"refused generate_data_key .* \(NotFoundException"):
        open_master_key("kms:alias/unknown").wrap(b"k" * 32, "x")
    kms.disabled.add("alias/catalog")
    with pytest.raises(KeyringError, match="check that the key is enabled"):
        open_master_key("kms:alias/catalog").wrap(b"k" * 32, "x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(KeyringError, match="UnrecognizedClientException"):
        open_master_key("kms:alias/other").wrap(b"k" * 32, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    with pytest.raises(KeyringError, match="cannot be asked"):
        open_master_key("kms:alias/other").wrap(b"k" * 32, "x")


def test_the_region_is_that_of_the_arn_else_it_has_to_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    arn = "arn:aws:kms:eu-central-1:123456789012:key/0a1b"
    assert open_master_key(f"kms:{arn}").name == f"kms:{arn}"
    with pytest.raises(ConfigurationError, match="master_key cannot be used"):
        open_master_key("kms:alias/catalog")
