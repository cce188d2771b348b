"""Nothing here runs code from a file it reads: no pickle, under any name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "catalog_pipeline"

PICKLERS = {
    *("pickle", "_pickle", "cPickle", "pickle5", "dill", "cloudpickle", "joblib"),
    *("shelve", "marshal", "jsonpickle", "copyreg"),
}
PICKLING_CALLS = {
    *("read_pickle", "to_pickle", "load_pickle", "dump_pickle", "torch.save", "numpy.save_pickle"),
    *("torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("eval", "exec", "__import__"),
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.BaseLoader"}
"""They make plain values, and strings alone."""

PICKLING_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npz", ".dill"}


def offences(source: str) -> Iterator[str]:
    """What in ``source`` may unpickle or otherwise run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] in PICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _call_offences(node)


def _call_offences(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    loader = options.get("Loader")
    if name == "yaml.load" and loader is not None and ast.unparse(loader) in SAFE_LOADERS:
        return
    if name in PICKLING_CALLS or name.rpartition(".")[2] in PICKLING_CALLS - {"eval", "exec"}:
        yield name
    if name == "torch.load" and not _is(options.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if "allow_pickle" in options and not _is(options["allow_pickle"], False):
        yield f"{name} with allow_pickle"
    if "use_safetensors" in options and not _is(options["use_safetensors"], True):
        yield f"{name} without use_safetensors"
    if _is(options.get("trust_remote_code"), True):
        yield f"{name} with trust_remote_code"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_module_unpickles() -> None:
    sources = [*PACKAGE.rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    assert len(sources) > 300
    found = {
        path.relative_to(REPOSITORY).as_posix(): problems
        for path in sources
        if (problems := list(offences(path.read_text("utf-8"))))
    }
    # The README of an exported concept and the lines of the data guide are run as a person would
    # paste them; one test takes away a package.
    assert found == {
        "tests/languages/test_matching.py": ["__import__"],
        "tests/test_data_page.py": ["exec", "exec"],
        "tests/diffusion/families/test_stable_diffusion_3.py": ["exec", "exec"],
        "tests/workflows/upkeep/test_export_concept.py": ["exec"],
    }


def test_no_file_of_the_package_is_a_pickle() -> None:
    found = []
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            beginning = path.read_bytes()[:2]
            # Protocols 2 to 5 begin so; a zip of tensors is what torch.save writes.
            pickled = beginning[:1] == b"\x80" and beginning[1:] in (b"\2", b"\3", b"\4", b"\5")
            if path.suffix in PICKLING_SUFFIXES or pickled:
                found.append(path.relative_to(PACKAGE).as_posix())
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import torch; torch.load('x')",
        "import torch; torch.load('x', weights_only=False)",
        "import torch; torch.save({}, 'x')",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import pandas as pd; pd.read_pickle('x')",
        "frame.to_pickle('x')",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "UNet.from_pretrained('x', use_safetensors=False)",
    ],
)
def test_each_way_is_seen(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load('x', weights_only=True)",
        "import numpy as np; np.load('x', allow_pickle=False)",
        "import yaml; yaml.safe_load(text)",
        "model.eval()",
        "from safetensors.torch import load; load(data)",
    ],
)
def test_safe_ways_pass(source: str) -> None:
    assert list(offences(source)) == []
