"""All settings of a run, and the only reader of ``assets_config/*.yaml``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import read_yaml, shown, without_absent
from catalog_pipeline.settings.alerts import AlertSettings
from catalog_pipeline.settings.archive import ArchiveSettings
from catalog_pipeline.settings.base_model import BaseModelSettings
from catalog_pipeline.settings.catalogs import CatalogSettings
from catalog_pipeline.settings.evaluation import EvaluationSettings
from catalog_pipeline.settings.execution import ExecutionSettings
from catalog_pipeline.settings.generation import GenerationSettings
from catalog_pipeline.settings.governance import GovernanceSettings
from catalog_pipeline.settings.languages import LanguageSettings
from catalog_pipeline.settings.learning import LearningSettings
from catalog_pipeline.settings.values import SecretValueError, Strict

CONFIG_ENV = "CATALOG_PIPELINE_CONFIG"
HOME_ENV = "CATALOG_PIPELINE_HOME"


class Settings(Strict):
    """Everything one run needs. ``home`` holds all state; ``config_dir`` is where it was read."""

    home: Path
    config_dir: Path
    base_model: BaseModelSettings = BaseModelSettings()
    catalog: CatalogSettings = CatalogSettings()
    learning: LearningSettings = LearningSettings()
    generation: GenerationSettings = GenerationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    archive: ArchiveSettings = ArchiveSettings()
    languages: LanguageSettings = LanguageSettings()
    alerts: AlertSettings = AlertSettings()
    execution: ExecutionSettings = ExecutionSettings()
    governance: GovernanceSettings = GovernanceSettings()

    @property
    def catalog_root(self) -> Path:
        """The watched folder; a relative ``catalogs.yaml: root`` is beside the home."""
        root = self.catalog.root.expanduser()
        return root if root.is_absolute() else self.home / root


FILES: dict[str, type[Strict]] = {
    "base_model": BaseModelSettings,
    "catalogs": CatalogSettings,
    "learning": LearningSettings,
    "generation": GenerationSettings,
    "evaluation": EvaluationSettings,
    "archive": ArchiveSettings,
    "languages": LanguageSettings,
    "alerts": AlertSettings,
    "execution": ExecutionSettings,
    "governance": GovernanceSettings,
}


_KNOWN = {f"{name}.yaml" for name in FILES}
_LOOK_ALIKE = re.compile(rf"\W*(?:{'|'.join(FILES)})(?:\.ya?ml\W.*|\.json|\.toml)", re.IGNORECASE)
"""An editor's copy of a settings file, or a file misnamed: what a visible ending makes of it."""


def environment(name: str) -> str | None:
    """The environment variable ``name``; ``None`` where it is unset, empty or blank."""
    value = os.environ.get(name, "")
    return value if value.strip() else None


def default_config_dir() -> Path:
    """``$CATALOG_PIPELINE_CONFIG``, else ``./assets_config``."""
    return _absolute(Path(environment(CONFIG_ENV) or "assets_config"))


def check_dagster_home() -> None:
    """Refuse a ``DAGSTER_HOME`` that Dagster cannot put into the URL of its SQLite files.

    Raises:
        ConfigurationError: it holds ``?`` or ``%`` and two hex digits; what Dagster wrote
            would land in another folder.
    """
    folder = environment("DAGSTER_HOME") or ""
    found = re.search(r"\?|%[0-9A-Fa-f]{2}", folder)
    if found:
        raise ConfigurationError(
            f"DAGSTER_HOME={folder!r} holds {found[0]!r}, which Dagster reads as a part of a URL, "
            "so that its databases land elsewhere; rename the folder or choose another"
        )


def passed_over(folder: Path) -> list[str]:
    """Visible files of a settings folder that look like settings and are not read, sorted."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in _KNOWN
        and not path.name.startswith(".")
        and _LOOK_ALIKE.fullmatch(path.name)
    )


def load_settings(config_dir: Path | None = None, home: Path | None = None) -> Settings:
    """Read every file of ``config_dir``.

    Hidden files are passed over, and so are copies such as ``learning.yaml~``
    (:func:`passed_over`). A file that is evidently misnamed is an error: another YAML file,
    or ``learning.yaml.txt`` where there is no ``learning.yaml``.

    Args:
        config_dir: folder of YAML files; default :func:`default_config_dir`.
        home: folder of all state; default ``$CATALOG_PIPELINE_HOME``, else
            ``dagster_home/storage`` beside ``config_dir``.

    Raises:
        ConfigurationError: no such folder, a file that is not YAML, an unknown
            file or key, or a value out of range; names the file and the key.
    """
    folder = _absolute(config_dir) if config_dir else default_config_dir()
    if not folder.is_dir():
        raise ConfigurationError(
            f"no settings folder at {folder}; expected a folder of YAML files such as "
            "assets_config/; pass --config DIR or set " + CONFIG_ENV
        )
    _check_names(folder)
    parts = {name: _read(folder / f"{name}.yaml", model) for name, model in FILES.items()}
    state = home or Path(environment(HOME_ENV) or folder.parent / "dagster_home" / "storage")
    return Settings(
        home=_absolute(state),
        config_dir=folder,
        base_model=parts["base_model"],
        catalog=parts["catalogs"],
        learning=parts["learning"],
        generation=parts["generation"],
        evaluation=parts["evaluation"],
        archive=parts["archive"],
        languages=parts["languages"],
        alerts=parts["alerts"],
        execution=parts["execution"],
        governance=parts["governance"],
    )


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:  # no such user, a circle, a NUL
        raise ConfigurationError(
            f"{str(path)!r} cannot be a folder: {error}; expected a path"
        ) from error


def _check_names(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    unknown = {
        name
        for name in names - _KNOWN
        if name.lower().endswith((".yaml", ".yml")) and not name.startswith(".")
    }
    misnamed = {
        name
        for name in passed_over(folder)
        if name.lower().endswith((".txt", ".json", ".toml"))
        and not any(known in names for known in _KNOWN if Path(known).stem in name.lower())
    }
    if unknown or misnamed:
        raise ConfigurationError(
            f"unknown settings file(s) {', '.join(map(repr, sorted(unknown | misnamed)))} in "
            f"{folder}; expected only {', '.join(f'{name}.yaml' for name in FILES)}; rename or "
            "remove what is not one of these"
        )


def _read(path: Path, model: type[Strict]) -> Any:
    try:
        content = without_absent(read_yaml(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ConfigurationError(
                f"{path} is a link to nothing; correct it, or remove it for the defaults"
            ) from error
        return model()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}; expected a YAML file"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not readable YAML: {error}") from error
    if content is None:
        return model()
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} holds a {type(content).__name__}; expected a mapping of keys to values"
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem, model) for problem in error.errors()]
        raise ConfigurationError(f"{path}: " + "; ".join(lines)) from error


def _explain(problem: Any, model: type[Strict]) -> str:
    where = shown(".".join(str(part) for part in problem["loc"]) or "(file)")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return f"unknown key {where}; top-level keys are: {known}"
    if problem["input"] is None and problem["type"] != "invalid_key":
        return f"{where} has no value; write one, or leave it out"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if isinstance(problem.get("ctx", {}).get("error"), SecretValueError):
        return f"{where}: {reason}"
    return f"{where} = {shown(str(problem['input']))}: {reason}"
