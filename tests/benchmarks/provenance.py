"""What each layer of provenance costs a picture, and what the watermark does to it.

Packshots on pure white and scenes with texture, drawn and, with ``--data``, real photos, all of
one size. Prints tables for docs/governance/provenance.md; writes nothing.

    python -m tests.benchmarks.provenance [--side 512] [--pictures 12] [--data DIR]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.provenance.certificates import load_certificate
from catalog_pipeline.provenance.content_credentials import PictureSigner, read_credentials
from catalog_pipeline.provenance.own_certificate import make_certificate
from catalog_pipeline.provenance.picture_files import PNG, pixel_digest, with_xmp
from catalog_pipeline.provenance.watermark import (
    TOLERATED,
    embed,
    extract,
    payload_of,
    wrong_bits,
)
from catalog_pipeline.provenance.xmp import xmp_packet
from catalog_pipeline.records import Pixels
from tests.benchmarks.harness.report import machine, today
from tests.provenance.pictures import ORIGIN, decoded, encoded, packshot, psnr, scene

KEY = bytes(range(32))
Table = Iterator[str]

ATTACKS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "PNG": lambda pixels: decoded(encoded(pixels, "PNG")),
    "JPEG 90": lambda pixels: decoded(encoded(pixels, "JPEG", quality=90)),
    "JPEG 75": lambda pixels: decoded(encoded(pixels, "JPEG", quality=75)),
    "JPEG 60": lambda pixels: decoded(encoded(pixels, "JPEG", quality=60)),
    "WebP 80": lambda pixels: decoded(encoded(pixels, "WEBP", quality=80)),
    "a quarter painted over": lambda pixels: _painted(pixels),
    "lower right cut off": lambda pixels: pixels[: -len(pixels) // 4, : -len(pixels) // 4],
    "8 % brighter": lambda pixels: np.clip(pixels * 1.08, 0, 255).astype(np.uint8),
    "scaled to 75 %": lambda pixels: _scaled(pixels, 0.75),
    "scaled to 40 %": lambda pixels: _scaled(pixels, 0.4),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    sets = {
        "packshots on white": [packshot(chosen.side, n) for n in range(chosen.pictures)],
        "scenes": [scene(chosen.side, n) for n in range(chosen.pictures)],
    }
    if chosen.data:
        files = sorted((chosen.data / "household_catalog" / "views").glob("*.webp"))
        step = max(1, len(files) // chosen.pictures)
        sets["real photos"] = [_photo(f, chosen.side) for f in files[::step][: chosen.pictures]]
    print(f"{today()} · {machine()} · {chosen.side} px · {chosen.pictures} pictures a kind\n")
    for lines in (costs(sets), looks(sets), survival(sets), judged()):
        print("\n".join(lines), "\n")


def costs(sets: Mapping[str, Sequence[Pixels]]) -> Table:
    """Median milliseconds and bytes a picture of each layer."""
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        made = act()
        seconds.setdefault(name, []).append(time.perf_counter() - started)
        return made

    with TemporaryDirectory() as folder:
        made = make_certificate(Path(folder) / "own", "Benchmark")
        certificate = load_certificate(made.chain, made.private_key)
        signer = timed("opening the certificate, once a night", lambda: PictureSigner(certificate))
        payload = payload_of(ORIGIN.job_id, KEY)
        for pixels in (each for pictures in sets.values() for each in pictures):
            marked = timed("watermark", lambda p=pixels: embed(p, payload, KEY))
            plain = timed("PNG without any of it", lambda p=pixels: encode_png(p))
            png = encode_png(marked)
            told = timed("XMP", lambda p=png: with_xmp(p, xmp_packet(ORIGIN)))
            timed("digest of the pixels", lambda p=marked: pixel_digest(p))
            signed = timed("signature (C2PA)", lambda p=told: signer.sign(p, PNG, ORIGIN))
            timed("verifying the signature", lambda p=signed: read_credentials(p, PNG))
            timed("reading the watermark", lambda p=marked: extract(p, KEY))
            for name, size in (
                ("PNG without any of it", len(plain)),
                ("watermark", len(png) - len(plain)),
                ("XMP", len(told) - len(png)),
                ("signature (C2PA)", len(signed) - len(told)),
            ):
                sizes.setdefault(name, []).append(size)
    sampled = picture_seconds()
    yield f"Sampling a picture with the shipped base and steps, nothing else: {sampled:.2f} s.\n"
    yield "| layer | ms a picture | of sampling it | bytes added |"
    yield "|---|---|---|---|"
    for name, found in seconds.items():
        size = f"{median(sizes[name]):+,.0f}" if name in sizes else ""
        spent = median(found)
        yield f"| {name} | {1000 * spent:.1f} | {spent / sampled:.2%} | {size} |"


def picture_seconds() -> float:
    """What one picture takes the shipped base, without products, judge and encoding."""
    from catalog_pipeline.learning.memory import render_backdrops
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.models import base_size_plan, open_engine

    settings = load_settings(Path("assets_config"))
    engine = open_engine(settings)
    plan = base_size_plan(engine, settings.generation)
    taken = []
    for seed in range(6):
        started = time.perf_counter()
        render_backdrops(engine, ["on a sandy beach"], plan, seed)
        taken.append(time.perf_counter() - started)
    return median(taken[1:])  # the first one warms up


def looks(sets: Mapping[str, Sequence[Pixels]]) -> Table:
    """How far the watermark is from being seen."""
    yield "| | PSNR, dB (least) | SSIM (least) | largest change of a value | of pure white kept |"
    yield "|---|---|---|---|---|"
    for name, pictures in sets.items():
        marked = [embed(p, payload_of(str(n), KEY), KEY) for n, p in enumerate(pictures)]
        pairs = list(zip(pictures, marked, strict=True))
        ratios = [psnr(one, other) for one, other in pairs]
        alike = [structural_similarity(one, other, channel_axis=2) for one, other in pairs]
        largest = max(int(np.abs(one.astype(int) - other).max()) for one, other in pairs)
        white = [
            float((other[one.min(-1) == 255] == 255).all(-1).mean())
            for one, other in pairs
            if (one.min(-1) == 255).mean() > 0.05
        ]
        kept = f"{fmean(white):.1%}" if white else ""
        yield (
            f"| {name} | {fmean(ratios):.1f} ({min(ratios):.1f}) | {fmean(alike):.4f} "
            f"({min(alike):.4f}) | {largest} | {kept} |"
        )


def survival(sets: Mapping[str, Sequence[Pixels]]) -> Table:
    """Of how many pictures the mark is read again, and with how many wrong bits of 48."""
    yield f"| after | {' | '.join(sets)} |"
    yield "|---" * (1 + len(sets)) + "|"
    for name, attack in ATTACKS.items():
        cells = []
        for pictures in sets.values():
            wrong = []
            for number, pixels in enumerate(pictures):
                payload = payload_of(str(number), KEY)
                wrong.append(wrong_bits(extract(attack(embed(pixels, payload, KEY)), KEY), payload))
            read = sum(each <= TOLERATED for each in wrong)
            cells.append(f"{read} of {len(wrong)} ({fmean(wrong):.1f})")
        yield f"| {name} | {' | '.join(cells)} |"
    cells = []
    for pictures in sets.values():
        wrong = [
            wrong_bits(extract(p, KEY), payload_of(str(n), KEY)) for n, p in enumerate(pictures)
        ]
        cells.append(f"{sum(each <= TOLERATED for each in wrong)} of {len(wrong)}")
    yield f"| taken for marked without a mark | {' | '.join(cells)} |"


def judged() -> Table:
    """What the reflection score says of the same pictures with and without a mark."""
    from tests.evaluation.reflection.test_score import CLASSES, HALVES, Studio

    studio = Studio()
    judge = studio.judge(colors=True)
    settings = ("on a gray background", "on a white background", "on a wooden table")
    skus = list(CLASSES)
    shown = [(a, b, s) for s in settings for a in skus for b in skus if a < b]
    pictures = [studio.picture(a, b, setting=s) for a, b, s in shown]
    named = [[(a, HALVES[0]), (b, HALVES[1])] for a, b, _ in shown]
    marked = [embed(p, payload_of(str(n), KEY), KEY) for n, p in enumerate(pictures)]
    before, after = (judge.judge(each, named) for each in (pictures, marked))
    pairs = list(zip(before, after, strict=True))
    moved = [
        abs(one.similarity - other.similarity)
        for a, b in pairs
        for one, other in zip(a.findings, b.findings, strict=True)
    ]
    changed = sum(a.passed != b.passed for a, b in pairs)
    verdicts = sum(
        one.verdict != other.verdict
        for a, b in pairs
        for one, other in zip(a.findings, b.findings, strict=True)
    )
    yield (
        f"Judged: {len(pairs)} pictures of {pictures[0].shape[1]} px, {len(moved)} products: "
        f"{changed} pictures and {verdicts} products with another verdict; likeness moves by "
        f"{fmean(moved):.4f} in the mean, {max(moved):.4f} at most."
    )


def _photo(file: Path, side: int) -> Pixels:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))


def _painted(pixels: Pixels) -> Pixels:
    painted = pixels.copy()
    painted[: len(pixels) // 2, : len(pixels) // 2] = (40, 90, 200)
    return painted


def _scaled(pixels: Pixels, factor: float) -> Pixels:
    """Smaller, and back to the size at which the archive has it."""
    image = Image.fromarray(pixels)
    small = image.resize([round(side * factor) for side in image.size], Image.Resampling.LANCZOS)
    return np.asarray(small.resize(image.size, Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
