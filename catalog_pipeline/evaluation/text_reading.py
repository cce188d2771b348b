"""Text on products: what a photo's label says, and how much of it a picture still says.

The reader is RapidOCR (PP-OCRv6 on ONNX Runtime). Its wheel carries the networks, whose paths
are given to it: nothing is ever fetched. The package is optional: :func:`open_text_reader`.
"""

from __future__ import annotations

import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.evaluation.packaged_weights import packaged_file
from catalog_pipeline.records import Pixels

DISTRIBUTION = "rapidocr==3.10.0"
SIDE_PX = 512
"""Crops are enlarged to this longer side before they are read, larger ones left as they are."""
MIN_CONFIDENCE = 0.8
"""Of a line whose text a photo is held to; of what a picture says everything counts."""
MIN_CHARACTERS = 5
"""Fewer confident characters are no readable text: the reader sees an ``L`` in a candle."""


class TextReader:
    """Reads the lines of a crop; its networks are opened at the first reading.

    Args:
        threads: of one reading.

    Raises:
        ConfigurationError: the package is not installed or lacks its networks.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._params = {
            "Global.log_level": "critical",
            "Global.use_cls": False,  # labels stand upright; a turn by 180 degrees is a fault
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(_network("PP-OCRv6_det_small.onnx")),
            "Det.limit_type": "max",
            "Det.limit_side_len": 960,
            "Rec.model_path": str(_network("PP-OCRv6_rec_small.onnx")),
        }
        self._engine: Any = None

    def read(self, pixels: Pixels, *, confidence: float = MIN_CONFIDENCE) -> str:
        """The lines from top to bottom, one a line of the answer, by :func:`normalised`.

        Args:
            pixels: ``(height, width, 3)`` RGB, 0..255.
            confidence: least mean probability of the characters of a line; below .5 the
                reader keeps a line to itself.
        """
        if self._engine is None:
            from rapidocr import RapidOCR

            self._engine = RapidOCR(params=self._params)
        image = Image.fromarray(pixels)
        scale = max(1.0, SIDE_PX / max(image.size))
        size = (round(image.width * scale), round(image.height * scale))
        large = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        # The networks know blue-green-red.
        said = self._engine(np.ascontiguousarray(large[..., ::-1]))
        scores = said.scores or ()
        lines = [
            normalised(text)
            for text, score in zip(said.txts or (), scores, strict=True)
            if score >= confidence
        ]
        return "\n".join(line for line in lines if line)


def open_text_reader(*, threads: int = 1) -> TextReader | None:
    """A reader, or ``None`` where rapidocr is not installed: then no text is judged.

    Raises:
        ConfigurationError: it is installed but lacks its networks.
    """
    return TextReader(threads=threads) if find_spec("rapidocr") else None


def read_reference(reader: TextReader, crop: Pixels) -> str:
    """What is read with confidence from the plain photo, at the size at which it is shown.

    What no longer can be read there is no fault of the picture. Empty below
    ``MIN_CHARACTERS``: such a photo has no readable text.

    Args:
        crop: the plain cut-out on a plain background, ``(height, width, 3)``.
    """
    reading = reader.read(crop)
    return reading if len(reading.replace("\n", "")) >= MIN_CHARACTERS else ""


def text_error(reader: TextReader, crop: Pixels, reference: str) -> float:
    """Character error of ``crop`` above the photo's own reading, 0..1.

    Args:
        crop: the product in the picture, on the same background as the plain one,
            ``(height, width, 3)``.
        reference: :func:`read_reference` of the plain one.

    Raises:
        ValueError: the reference is empty.
    """
    # Of the picture every line counts, however unsure: only what is lost is an error.
    return character_error(reference, reader.read(crop, confidence=0.0))


def character_error(reference: str, found: str) -> float:
    """Edits that turn parts of ``found`` into the lines of ``reference``, a character, 0..1.

    With ``d`` the Levenshtein distance::

        sum over lines r of min over substrings s of found: d(r, s)  /  sum over lines |r|

    Each line is sought wherever it fits best, so that neither the order of lines nor a line
    read in two counts, nor text the reference does not vouch for. Sellers, "The theory and
    computation of evolutionary distances", Journal of Algorithms 1 (1980).

    Raises:
        ValueError: the reference is empty.
    """
    lines = [line for line in reference.split("\n") if line]
    if not lines:
        raise ValueError("got an empty reference; expected the text that should be found")
    text = found.replace("\n", "")
    return sum(_edits(line, text) for line in lines) / sum(map(len, lines))


def normalised(text: str) -> str:
    """Compatibility form, without case and white space: readers disagree on these."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _edits(line: str, text: str) -> int:
    """Least Levenshtein distance of ``line`` to any substring of ``text``."""
    row = [0] * (len(text) + 1)  # a match may begin anywhere
    for wanted in line:
        diagonal, row[0] = row[0], row[0] + 1
        for at, got in enumerate(text, start=1):
            change = diagonal + (wanted != got)
            diagonal = row[at]
            row[at] = min(change, row[at] + 1, row[at - 1] + 1)
    return min(row)


def _network(name: str) -> Path:
    return packaged_file("rapidocr", DISTRIBUTION, f"models/{name}")
