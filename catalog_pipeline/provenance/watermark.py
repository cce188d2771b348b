"""An invisible mark in the pixels: 48 bits that outlive a new encoding of the picture.

Dither modulation, a quantisation index modulation (Chen and Wornell, IEEE Transactions on
Information Theory 47(4), 2001), of low frequencies of the luminance. The picture is cut into
blocks of 8 x 8 pixels, the grid of JPEG, and transformed (DCT-II, orthonormal). Each of a block's
``_PLACES`` carries one bit: its coefficient moves to the next point of the lattice
``_STEP * (n + dither + bit / 2)``, by at most half a step. Which bit a coefficient carries and
its dither follow from a secret key, so that nobody without it can read the mark. A bit is read
from all of its coefficients together, some 250 in a picture of 512 x 512, so that many of them
may be lost.

Blocks that are all but white or black are left as they are: a cut-out background of pure white
stays pure, and a mark that pushes values past 255 would be cut off anyway.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn, idctn

from catalog_pipeline.records import Pixels

BITS = 48
TOLERATED = 3
"""Wrong bits with which a mark still counts as that of a picture.

Of a million pictures, one that has no mark is taken for another with a probability of 7e-5.
"""

_BLOCK = 8
_PLACES = ((0, 1), (1, 0), (1, 1))
"""(row, column) of the coefficients of a block; JPEG and scaling keep these best."""
_STEP = 16.0
"""Distance of the lattice's points, in grey levels of the orthonormal transform.

A coefficient is read right as long as it moved by less than a quarter of it. JPEG at quality 75
rounds these coefficients to multiples of 5 to 7, which moves them by 3.5 at most.
"""
_DARKEST, _LIGHTEST = 4.0, 251.0
"""Mean luminance of the blocks that carry bits, 0..255."""
_LUMINANCE = np.array((0.299, 0.587, 0.114))
"""Of red, green and blue: ITU-R BT.601, as JPEG has it."""

Floats = npt.NDArray[np.float64]


def payload_of(job_id: str, key: bytes) -> int:
    """The 48 bits that mark the picture of a job: the first of HMAC-SHA256."""
    digest = hmac.digest(key, b"picture " + job_id.encode(), "sha256")
    return int.from_bytes(digest[: BITS // 8], "big")


def wrong_bits(one: int, other: int) -> int:
    """In how many bits two payloads differ; 24 in the mean for two that have nothing in common."""
    return (one ^ other).bit_count()


def embed(pixels: Pixels, payload: int, key: bytes) -> Pixels:
    """A copy of an RGB picture that carries ``payload``; the same for the same three.

    A border that fills no block stays as it is. A picture of fewer than about 128 x 128 pixels
    has too few blocks for the mark to be read again.
    """
    blocks = _blocks(pixels)
    rows, columns = blocks.shape[:2]
    if not blocks.size:
        return pixels.copy()
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    bit, dither = _layout(rows, columns, key)
    offset = dither + np.array([payload >> place & 1 for place in range(BITS)])[bit] / 2
    at = _at_places(coefficients)
    wanted = _STEP * (np.round(at / _STEP - offset) + offset)
    change = np.zeros_like(coefficients)
    for place, (row, column) in enumerate(_PLACES):
        moved = wanted[..., place] - at[..., place]
        change[..., row, column] = np.where(_carry(blocks), moved, 0.0)
    added = idctn(change, axes=(2, 3), norm="ortho")
    marked = pixels.astype(np.float64)
    whole = marked[: rows * _BLOCK, : columns * _BLOCK]
    whole += added.transpose(0, 2, 1, 3).reshape(rows * _BLOCK, columns * _BLOCK)[..., None]
    return np.rint(marked).clip(0, 255).astype(np.uint8)


def extract(pixels: Pixels, key: bytes) -> int:
    """The 48 bits that a picture carries; of one without a mark bits that mean nothing."""
    blocks = _blocks(pixels)
    rows, columns = blocks.shape[:2]
    if not blocks.size:
        return 0
    at = _at_places(dctn(blocks, axes=(2, 3), norm="ortho"))
    bit, dither = _layout(rows, columns, key)
    # 1 on a lattice point of bit 0, -1 on one of bit 1, 0 half way.
    votes = np.cos(2 * np.pi * (at / _STEP - dither)) * _carry(blocks)[..., None]
    sums = np.bincount(bit.ravel(), weights=votes.ravel(), minlength=BITS)
    return sum(1 << place for place in range(BITS) if sums[place] < 0)


def _blocks(pixels: Pixels) -> Floats:
    """Luminance in blocks: ``(block rows, block columns, 8, 8)``."""
    rows, columns = pixels.shape[0] // _BLOCK, pixels.shape[1] // _BLOCK
    luminance = pixels[: rows * _BLOCK, : columns * _BLOCK] @ _LUMINANCE
    blocks = luminance.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    return np.asarray(blocks, np.float64)


def _carry(blocks: Floats) -> npt.NDArray[np.bool_]:
    """Which blocks carry bits: ``(block rows, block columns)``."""
    mean = blocks.mean(axis=(2, 3))
    return np.asarray((mean >= _DARKEST) & (mean <= _LIGHTEST), np.bool_)


def _at_places(coefficients: Floats) -> Floats:
    """``(block rows, block columns, places)``."""
    return np.stack([coefficients[..., row, column] for row, column in _PLACES], axis=-1)


def _layout(rows: int, columns: int, key: bytes) -> tuple[npt.NDArray[np.intp], Floats]:
    """Bit and dither of each coefficient: ``(block rows, block columns, places)``, twice.

    Of 48 coefficients that follow one another each carries another bit, so that none is left
    with few of them. Made of SHAKE-256 a row of blocks: the same with every release of numpy, and
    for a picture that was cut at its right or lower side.
    """
    size = columns * len(_PLACES)
    rounds = -(-size // BITS)

    def drawn(what: bytes, row: int, count: int) -> npt.NDArray[np.uint8]:
        seed = b"%b of row %d " % (what, row) + key
        return np.frombuffer(hashlib.shake_256(seed).digest(count), np.uint8)

    words = np.stack([drawn(b"bits", row, 2 * rounds * BITS) for row in range(rows)])
    ranks = (words[:, ::2].astype(np.intp) << 8 | words[:, 1::2]).reshape(rows, rounds, BITS)
    bit = ranks.argsort(axis=-1, kind="stable").reshape(rows, -1)[:, :size]
    dither = np.stack([drawn(b"dither", row, size) for row in range(rows)]) / 256.0
    shape = (rows, columns, len(_PLACES))
    return bit.reshape(shape), dither.reshape(shape)
