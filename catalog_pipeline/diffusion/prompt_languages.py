"""Which bases read English alone, by the name of their pipeline; needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

_MULTILINGUAL = ("QwenImage", "Flux2Klein")
"""Their text encoder is a language model of many languages."""


def reads_english_only(folder: Path) -> bool:
    """Whether the text encoders of the base in ``folder`` were trained on English captions.

    ``False`` where the folder does not say: its prompts stay as they are typed.
    """
    try:
        name = json.loads((folder / "model_index.json").read_bytes())["_class_name"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return not str(name).startswith(_MULTILINGUAL)
