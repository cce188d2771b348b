"""What docs/architecture.md promises of adding a method, a setting and a command.

Families, solvers, parametrisations, stores and assets are added in the tests of their rooms.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.learning.methods import registry
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.settings import LearningSettings, Settings, load_settings
from catalog_pipeline.workflows.home import open_home
from tests.workflows.tiny_catalog import learn_all, tiny_settings, write_photos

REPOSITORY = Path(__file__).resolve().parents[1]


class Loud(OwnSlots):
    """Own slots at twice their strength: as small as a method can be."""

    name = "loud"

    def parts(self, task):
        with torch.no_grad():
            for subject in task.subjects:
                for layer in self.engine.adapter.layers_of(subject.slot).values():
                    layer.tensors(subject.slot)["up"] *= 2
        return super().parts(task)


def test_a_lifelong_method_is_a_file_and_a_line_of_the_registry(
    make_settings, tiny_model_folder, monkeypatch
):
    settings = tiny_settings(make_settings, tiny_model_folder)
    write_photos(settings, "A")
    quiet = settings.model_copy(update={"home": settings.home / "quiet"})
    catalog = settings.catalog.model_copy(update={"root": settings.catalog_root})
    quiet = quiet.model_copy(update={"catalog": catalog})
    assert learn_all(quiet)["A"].status == "learned"
    monkeypatch.setitem(registry._SHIPPED, "per_concept", Loud)
    assert learn_all(settings)["A"].status == "learned"
    heads = [open_home(each).adapters("default").current() for each in (quiet, settings)]
    parts = [head.parts["concept/A"] for head in heads if head is not None]
    assert len(set(parts)) == 2


def test_a_setting_is_a_field_and_a_line_of_the_shipped_file(tmp_path):
    """Every field has its line in assets_config, and every line is a field."""
    folder = REPOSITORY / "assets_config"
    shipped = load_settings(folder)
    sections = {name: value for name, value in shipped if name not in ("home", "config_dir")}
    files = {"catalog": "catalogs"}
    for name, section in sections.items():
        written = yaml.safe_load((folder / f"{files.get(name, name)}.yaml").read_text("utf-8"))
        assert set(written) == set(type(section).model_fields), name
    assert set(sections) == set(Settings.model_fields) - {"home", "config_dir"}
    changed = {**yaml.safe_load((folder / "learning.yaml").read_text("utf-8")), "steps": 7}
    (tmp_path / "learning.yaml").write_text(yaml.safe_dump(changed), "utf-8")
    assert load_settings(tmp_path).learning == LearningSettings.model_validate(changed)


def test_a_command_is_a_function(monkeypatch):
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))

    @app.command()
    def greet(sku: str) -> None:
        """Say hello to a SKU."""
        print(f"hello {sku}")

    run = CliRunner().invoke
    assert run(app, ["greet", "A"]).output == "hello A\n"
    assert "Say hello to a SKU." in run(app, ["--help"]).output
