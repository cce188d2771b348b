"""Every file of every part matters at the door; what was looked at is looked at once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog_pipeline.diffusion import base_parts
from catalog_pipeline.diffusion.base import hash_model_folder, resolve_base_model
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings


@pytest.fixture
def copy(tiny_model_folder, tmp_path) -> Path:
    """The tiny model, to be changed."""
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


def refusal(path: Path) -> str:
    with pytest.raises(BaseModelError) as caught:
        resolve_base_model(BaseModelSettings(base_model=str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_another_model(folder: Path) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    read = json.loads(path.read_text())
    read["added_tokens"].append({**read["added_tokens"][-1], "id": 2782, "content": "<more>"})
    path.write_text(json.dumps(read))


def with_schedule(value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "beta_schedule": value}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(),
            "tokenizer lacks its vocabulary, tokenizer.json or vocab.json and merges.txt",
        ),
        (
            lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{}"),
            "tokenizer does not open as a CLIPTokenizer: ",
        ),
        (
            lambda folder: (folder / "tokenizer" / "merges.txt").write_bytes(b""),
            "tokenizer/merges.txt is empty",
        ),
        (of_another_model, "tokenizer has 2,783 tokens, its text encoder has rows for 2,782"),
        (with_schedule("none"), "scheduler does not open as a DDIMScheduler: "),
        (with_schedule(3), "scheduler does not open as a DDIMScheduler: "),
    ],
)
def test_tokenizers_and_schedulers_are_opened_at_the_door(copy, damage, message):
    damage(copy)
    assert message in refusal(copy)


def test_a_vocabulary_in_two_files_opens(copy):
    path = copy / "tokenizer" / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    path.unlink()
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(m if isinstance(m, str) else " ".join(m) for m in model["merges"])
    (copy / "tokenizer" / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    assert resolve_base_model(BaseModelSettings(base_model=str(copy))) == copy


MAY_BE_GONE = {
    "delete": ("model_index.json", "tokenizer_config.json"),
    "link": ("model_index.json",),
    "folder": ("model_index.json",),
}
"""Without an index a folder is known by its parts."""


@pytest.mark.parametrize("deed", ["delete", "cut", "empty", "garble", "point", "link", "folder"])
def test_no_file_of_a_folder_can_be_spoilt_without_a_word(tiny_model_folder, tmp_path, deed):
    copy = shutil.copytree(tiny_model_folder, tmp_path / "copy")
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.unlink()
        if deed == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif deed == "empty":
            path.write_bytes(b"")
        elif deed == "garble":
            path.write_bytes(random.Random(path.name).randbytes(len(content)))
        elif deed == "point":
            path.write_text("version https://git-lfs.github.com/spec/v1\n")
        elif deed == "link":
            path.symlink_to(copy / "nowhere")
        elif deed == "folder":
            path.mkdir()
        before = sorted(copy.rglob("*"))
        if path.name in MAY_BE_GONE.get(deed, ()):
            resolve_base_model(BaseModelSettings(base_model=str(copy)))
        else:
            said = refusal(copy)
            assert path.name in said or path.parent.name in said
            assert re.search("again|git lfs pull|finish it", said)
        assert sorted(copy.rglob("*")) == before
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    resolve_base_model(BaseModelSettings(base_model=str(copy)))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once, and nothing has been looked at."""
    monkeypatch.setattr(base_parts, "_SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(base_parts, "_hashes", {})
    monkeypatch.setattr(base_parts, "_sound", set())


def change_in_secret(path: Path) -> None:
    """Another byte, with the size and the time of the last writing as before."""
    content, seen = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_a_folder_is_hashed_once_until_a_file_changes(copy, settled, monkeypatch):
    first = hash_model_folder(copy)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)  # nothing is read
        assert hash_model_folder(copy) == first
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    change_in_secret(weights)
    second = hash_model_folder(copy)
    assert second != first
    (copy / "new").write_bytes(weights.read_bytes())
    (copy / "new").replace(weights)
    assert hash_model_folder(copy) == second


def test_a_file_that_changed_just_now_is_read_each_time(copy, monkeypatch):
    monkeypatch.setattr(base_parts, "_hashes", {})
    hash_model_folder(copy)
    resolve_base_model(BaseModelSettings(base_model=str(copy)))
    assert not base_parts._hashes
    assert not any(str(copy) in key[0] for key in base_parts._sound)


def test_a_part_is_looked_at_once_until_a_file_changes(copy, settled, monkeypatch):
    settings = BaseModelSettings(base_model=str(copy))
    resolve_base_model(settings)
    with monkeypatch.context() as patch:
        patch.setattr(base_parts, "find_weights_fault", None)
        resolve_base_model(settings)
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "it is cut off after" in refusal(copy)
    assert "it is cut off after" in refusal(copy)
