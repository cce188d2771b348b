"""Find weight files inside installed packages without importing the packages.

The packages that carry the weights would pull in OpenCV or print on import;
only their files are used.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError


def packaged_file(module: str, distribution: str, relative: str) -> Path:
    """The path of ``relative`` inside the folder of the installed top-level ``module``.

    Raises:
        ConfigurationError: the package is not installed, or does not hold the file;
            names the distribution and the command that installs it.
    """
    spec = find_spec(module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise ConfigurationError(
            f"the package {distribution} is not installed; it carries the weights {relative}; "
            "run `make setup`, or install requirements-encoders.txt as its first lines say"
        )
    for folder in folders:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise ConfigurationError(
        f"the installed package {distribution} has no {relative} in {', '.join(folders)}; "
        "expected the version pinned in requirements-encoders.txt; run `make setup`"
    )
