"""Pictures as data sets, read back with the tools that they are for."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from catalog_pipeline.errors import CertificateError, ConfigurationError, ObjectNotFoundError
from catalog_pipeline.provenance.content_credentials import read_credentials
from catalog_pipeline.provenance.origin import COMPOSITE, GENERATED
from catalog_pipeline.provenance.own_certificate import make_certificate
from catalog_pipeline.provenance.picture_files import PNG, has_credentials, xmp_of
from catalog_pipeline.provenance.xmp import read_origin
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.settings.governance import ProvenanceSettings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep import image_forms
from catalog_pipeline.workflows.upkeep.export_images import Selection, card_of, export_images
from tests.workflows.upkeep.data_home import (
    FIRST,
    HEIGHT,
    SECOND,
    THIRD,
    VERSIONS,
    WIDTH,
    fill_home,
)

CURRENT = ["mug-alone", "mug-and-zeros", "mug-second", "mug-third", "zeros-placed"]
FORMS: tuple[Any, ...] = ("webdataset", "imagefolder", "coco")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("export")
    home = open_home(Settings.model_validate({"home": folder / "home", "config_dir": folder}))
    fill_home(home.objects)
    return home


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of webdataset itself
def test_webdataset_reads_the_shards(
    example: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webdataset

    monkeypatch.setattr(image_forms, "PICTURES_PER_SHARD", 2)
    written = export_images(example, tmp_path / "out", form="webdataset")
    assert (written.pictures, written.files) == (5, 4)
    shards = str(tmp_path / "out/train/{000000..000002}.tar")
    read = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in read] == CURRENT
    pair = read[1]
    assert pair["png"].size == (WIDTH, HEIGHT)
    assert pair["txt"] == pair["json"]["text"] == "MUG and 00123 on a sandy beach"
    assert pair["json"]["skus"] == ["MUG", "00123"]
    assert pair["json"]["products"][0] == {
        "sku": "MUG",
        "name": "Blue mug",
        "class_noun": "mug",
        "bbox": [0, 4, 16, 12],
        "bbox_source": "planned",
        "photo_sha256": "",
        "concept_sha256": f"concept of MUG in {VERSIONS['MUG']}",
        "collection": "default",
        "adapter_version": pair["json"]["adapter_version"],
    }
    assert {tuple(sample["json"]) for sample in read} == {image_forms.RECORD_FIELDS}
    gc.collect()


def test_an_image_folder_keeps_the_loaders_rules(example: Home, tmp_path: Path) -> None:
    """A split is a folder; a line of metadata a picture; ``file_name`` leads to it."""
    export_images(example, tmp_path / "out", form="imagefolder")
    train = tmp_path / "out/train"
    written = (train / "metadata.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["image_id"] for line in lines] == CURRENT
    pictures = sorted(path.name for path in train.glob("*.png"))
    assert pictures == [line["file_name"] for line in lines]
    assert {tuple(line) for line in lines} == {tuple(lines[0])}
    for line in lines:
        with Image.open(train / line["file_name"]) as picture:
            picture.load()
            assert picture.size == (line["width"], line["height"])
        assert len(line["objects"]["bbox"]) == len(line["objects"]["categories"])
    assert lines[4]["objects"] == {"bbox": [[2, 3, 10, 10]], "categories": ["00123"]}


def test_pycocotools_reads_the_boxes(
    example: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    export_images(example, tmp_path / "out", form="coco")
    coco = COCO(str(tmp_path / "out/annotations.json"))
    assert capsys.readouterr()
    categories = {c["name"]: c for c in coco.loadCats(coco.getCatIds())}
    assert {name: c["supercategory"] for name, c in categories.items()} == {
        "00123": "mug",
        "MUG": "mug",
    }
    zeros = coco.loadAnns(coco.getAnnIds(catIds=[categories["00123"]["id"]]))
    names = {image["id"]: image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    assert [(names[a["image_id"]], a["bbox"], a["source"]) for a in zeros] == [
        ("mug-and-zeros.png", [16, 4, 16, 12], "planned"),
        ("zeros-placed.png", [2, 3, 10, 10], "placed"),
    ]
    assert all((tmp_path / "out/images" / name).is_file() for name in names.values())
    told = coco.dataset["info"]["description"]
    assert re.findall(r": (\d+)\.", told) == ["1", "2", "3"]
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in coco.dataset["annotations"])


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pictures_give_the_same_bytes(
    example: Home, tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_images(example, tmp_path / "one", form=form)
    monkeypatch.setattr("time.time", lambda: 4e9)
    export_images(example, tmp_path / "two", form=form)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert "README.md" in one
    told = b"".join(one.values()).replace(b"held back", b"")
    assert not re.search(rb"dropped|held|GONE", told)


def test_the_card_says_what_there_is(example: Home) -> None:
    card = card_of(example)
    _, matter, body = card.split("---\n", 2)
    front = yaml.safe_load(matter)
    assert front["license"] == "unknown"
    assert front["size_categories"] == ["n<1K"]
    assert "configs" not in front
    assert "5 generated pictures of 2 products" in body
    assert "| MUG | Blue mug | mug | 4 |" in body
    assert "| nights | 3, from 2026-03-01 to 2026-03-03 |" in body
    assert "`base`" in body
    assert "exact (1), learned (4)" in body
    for name in image_forms.RECORD_FIELDS:
        assert f"| `{name}` | " in body


@pytest.mark.parametrize("form", ["webdataset", "imagefolder"])
def test_the_cards_files_are_there(example: Home, tmp_path: Path, form: Any) -> None:
    out = tmp_path / "out"
    export_images(example, out, form=form)
    front = yaml.safe_load((out / "README.md").read_text("utf-8").split("---\n")[1])
    (split,) = front["configs"][0]["data_files"]
    assert split["split"] == "train"
    assert [path for path in out.glob(split["path"].replace("/**", "/*")) if path.is_file()]


CHOICES: dict[str, tuple[Selection, list[str]]] = {
    "nights": (Selection(days=(SECOND, THIRD)), ["mug-second", "mug-third"]),
    "any SKU": (Selection(skus=("00123", "NEW")), ["mug-and-zeros", "zeros-placed"]),
    "a condition": (Selection(where="attempts > 1 -- often"), ["mug-second"]),
    "all of them": (Selection((FIRST,), ("MUG",), "len(skus) = 2"), ["mug-and-zeros"]),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_of_pictures(example: Home, tmp_path: Path, choice: str) -> None:
    selection, expected = CHOICES[choice]
    export_images(example, tmp_path / "out", form="imagefolder", selection=selection)
    assert sorted(path.stem for path in (tmp_path / "out/train").glob("*.png")) == expected


def test_what_cannot_be_chosen(example: Home, tmp_path: Path) -> None:
    for selection, told in (
        (Selection(days=(date(2020, 1, 1),)), "no night of 2020-01-01 has been published"),
        (Selection(skus=("GONE",)), "no current picture of .* fits the choice"),
        (Selection(where="attempts >"), "the query is no SQL"),
        (Selection(where="true); DROP VIEW images; --"), "the query is no SQL"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            export_images(example, tmp_path / "out", form="coco", selection=selection)
    with pytest.raises(ConfigurationError, match="among what the program stores itself"):
        export_images(example, example.settings.home / "images/out", form="coco")
    assert list(tmp_path.iterdir()) == []


def test_without_its_plan_a_drawn_product_has_no_box(settings: Settings, tmp_path: Path) -> None:
    home = open_home(settings)
    fill_home(home.objects)
    (settings.home / f"plans/dt={FIRST}/plan.json").unlink()
    export_images(home, tmp_path / "out", form="coco")
    found = json.loads((tmp_path / "out/annotations.json").read_text("utf-8"))
    assert Counter(a["source"] for a in found["annotations"]) == {"placed": 1}


def test_a_missing_picture_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    home = open_home(settings)
    fill_home(home.objects)
    (row,) = [row for row in home.archive.read_day(FIRST) if row.image_id == "mug-alone"]
    (settings.home / row.path).unlink()
    with pytest.raises(ObjectNotFoundError, match=r"mug-alone of 2026-03-01 is not stored"):
        export_images(home, tmp_path / "exports/out", form="webdataset")
    assert not (tmp_path / "exports").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep import export_images
home, out = sys.argv[1:]
export_images.dataset_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = Settings.model_validate({"home": home, "config_dir": home})
export_images.export_images(open_home(settings), Path(out), form="imagefolder")
"""


def test_a_killed_export_leaves_no_folder_and_the_next_one_is_whole(
    example: Home, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", KILLED, str(example.settings.home), str(out)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".catalog-pipeline-export-")
    export_images(example, out, form="imagefolder")
    export_images(example, tmp_path / "undisturbed", form="imagefolder")
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_bucket_gives_the_same_files(
    example: Home,
    tmp_path: Path,
    s3_settings: S3Settings,
    make_settings: Callable[..., Settings],
) -> None:
    bucket = open_home(make_settings(archive={"s3": s3_settings.model_dump()}))
    fill_home(bucket.objects)
    export_images(bucket, tmp_path / "bucket", form="webdataset")
    export_images(example, tmp_path / "folder", form="webdataset")
    assert contents(tmp_path / "bucket") == contents(tmp_path / "folder")


def archived(home: Home) -> dict[str, bytes]:
    """Everything but the audit log, which notes each export."""
    keys = [key for key in home.objects.list("") if not key.startswith("audit/")]
    return {key: home.objects.read(key).data for key in keys}


def test_what_leaves_says_what_it_is_and_is_signed_where_that_is_set(
    example: Home, tmp_path: Path
) -> None:
    """Pictures from before either was set get it in leaving; the archive stays as it is."""
    made = make_certificate(tmp_path / "own", "Acme")
    keys = {"certificate": made.chain, "private_key": made.private_key}
    part = ProvenanceSettings.model_validate(keys)
    governance = example.settings.governance.model_copy(update={"provenance": part})
    signing = open_home(example.settings.model_copy(update={"governance": governance}))
    before = archived(example)
    export_images(signing, tmp_path / "tar", form="webdataset")
    tarred = {}
    with tarfile.open(tmp_path / "tar/train/000000.tar") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None and member.name.endswith(".png"):
                tarred[member.name.removesuffix(".png")] = stream.read()
    export_images(signing, tmp_path / "folder", form="imagefolder")
    loose = {path.stem: path.read_bytes() for path in (tmp_path / "folder/train").glob("*.png")}
    assert sorted(tarred) == sorted(loose) == CURRENT
    for job, png in (*tarred.items(), *loose.items()):
        found = read_credentials(png, PNG, [made.root.read_text()])
        assert found is not None
        assert (found.trusted, found.failures) == (True, ())
        placed = job == "zeros-placed"
        origin = read_origin(xmp_of(png))
        assert origin == found.origin
        assert origin is not None
        assert (origin.job_id, origin.source_type) == (job, COMPOSITE if placed else GENERATED)
    assert archived(example) == before
    export_images(example, tmp_path / "unsigned", form="coco")
    files = {p.stem: p.read_bytes() for p in (tmp_path / "unsigned/images").glob("*.png")}
    assert {job for job, png in files.items() if xmp_of(png)} == set(CURRENT)
    assert not any(map(has_credentials, files.values()))


def test_an_export_that_cannot_be_signed_is_refused_before_it_begins(
    example: Home, tmp_path: Path
) -> None:
    keys = {"certificate": tmp_path / "absent.pem", "private_key": tmp_path / "absent.key"}
    part = ProvenanceSettings.model_validate(keys)
    governance = example.settings.governance.model_copy(update={"provenance": part})
    signing = open_home(example.settings.model_copy(update={"governance": governance}))
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        export_images(signing, tmp_path / "out", form="coco")
    assert list(tmp_path.iterdir()) == []
