"""What the demo shows: a contact sheet, the gallery, the manifest, a query, plain lines."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb

from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.evaluation.contact_sheet import contact_sheet, decode_png, encode_png
from catalog_pipeline.records import ArchiveRow, Pixels
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.gallery import write_gallery

QUERY = (
    "select sku, count(*) as images, count(*) filter (len(skus) > 1) as shared, "
    "round(avg(scores['delta_e/' || sku]), 1) as delta_e "
    "from (select *, unnest(skus) as sku from '{glob}' where not superseded) "
    "group by sku order by sku"
)
"""Pictures and mean colour difference to the photos (CIEDE2000), by product."""

_SHEET_CELL_PX = 240
_SHEET_PHOTOS = 2


def show_results(home: Home, night: date, skus: Sequence[str]) -> None:
    """Write sheet and gallery of ``night`` and print where they are, and a query's result.

    Raises:
        CatalogPipelineError: the night made no picture of one of ``skus``.
    """
    archive, settings = home.archive, home.settings
    rows = [row for row in archive.read_day(night) if not row.superseded]
    held = [row for row in archive.quarantine.read_day(night) if not row.superseded]
    missing = set(skus) - {sku for row in (*rows, *held) for sku in row.skus}
    if missing:
        raise CatalogPipelineError(
            f"the night {night} has no picture of {', '.join(sorted(missing))}; expected one of "
            f"each of {', '.join(skus)}; run the demo again"
        )
    if held:
        say(f"held back      {len(held)} images that do not show every product that they name")
    sheet = write_contact_sheet(home, rows, skus, settings.home / "contact-sheet.png")
    gallery = write_gallery(home, night)
    manifest = settings.home / "manifest" / f"dt={night.isoformat()}" / "part-0.parquet"
    say(f"contact sheet  {short(sheet)}")
    say(f"gallery        {short(gallery)}")
    say(f"manifest       {short(manifest)}  ({len(rows)} images)")
    query = QUERY.format(glob=archive.manifest_glob().replace("'", "''"))
    code = f"import duckdb; print(duckdb.sql({query!r}))"
    say("query          (paste it: it reads nothing but the Parquet files)\n")
    in_shell = re.sub(r'["$`\\]', r"\\\g<0>", code)
    print(f'{shlex.quote(short(Path(sys.executable)))} -c "{in_shell}"')
    print(duckdb.sql(query))
    say("`make dev` opens the ops UI on this home")


def write_contact_sheet(
    home: Home, rows: Sequence[ArchiveRow], skus: Sequence[str], target: Path
) -> Path:
    """A row a product: photos, then its scenes alone; below them the scenes of two.

    Args:
        home: holds the photos and the archive.
        rows: the manifest rows to show.
        skus: the products, in order.
        target: the PNG to write.

    Returns:
        ``target``.
    """

    def picture(row: ArchiveRow) -> Pixels:
        return decode_png(home.archive.read_image(row.path))

    cells: list[list[Pixels]] = []
    captions: list[str] = []
    for sku in skus:
        photo_set = validate_photo_set(home, sku)
        photos = photo_set.photos[:_SHEET_PHOTOS]
        alone = [picture(row) for row in rows if row.skus == (sku,)]
        cells.append([*(photo.pixels for photo in photos), *alone])
        captions.append(f"{photo_set.sku.name}: {len(photos)} photos, then rendered alone")
    together = [picture(row) for row in rows if len(row.skus) > 1]
    # Such pictures are wider: as many in a row as fill the width of those above.
    columns = max(len(row) for row in cells)
    widest = max((pixels.shape[1] / pixels.shape[0] for pixels in together), default=1.0)
    columns = max(1, int(columns / max(1.0, widest)))
    for start in range(0, len(together), columns):
        cells.append(together[start : start + columns])
        captions.append("rendered together" if start == 0 else "")
    sheet = contact_sheet(cells, captions=captions, cell_px=_SHEET_CELL_PX)
    target.write_bytes(encode_png(sheet))
    return target


def say(line: str) -> None:
    """Print ``line`` below the title of its stage."""
    print(f"      {line}", flush=True)


def short(path: Path) -> str:
    """``path`` as a person in the working folder would type it."""
    working = Path.cwd()
    return str(path.relative_to(working)) if path.is_relative_to(working) else str(path)
