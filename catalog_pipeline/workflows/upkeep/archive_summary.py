"""DuckDB over the whole archive's manifests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.stores.keys import manifest_key
from catalog_pipeline.workflows.home import Home

if TYPE_CHECKING:
    import duckdb

PER_DAY = """
    select cast(day as varchar) as day,
           count(distinct image_id) filter (not superseded) as rows,
           count(distinct image_id) filter (superseded) as superseded,
           count(distinct sku) filter (not superseded) as skus
    from (select day, superseded, image_id, unnest(skus) as sku from manifest)
    group by day order by day
"""

PER_SKU = """
    select sku, count(*) as rows, count(distinct day) as nights
    from (select day, unnest(skus) as sku from manifest where not superseded)
    group by sku order by sku
"""

PER_MODE = """
    select coalesce(mode, 'learned') as mode, count(*) as rows
    from manifest where not superseded group by all order by all
"""

REPEATED = """
    select image_id, count(*) as rows, string_agg(cast(day as varchar), ', ' order by day) as days
    from manifest group by image_id having count(*) > 1 order by image_id
"""


@dataclass(frozen=True)
class ArchiveSummary:
    """Pictures per night, per SKU and per mode; ``source`` is the glob that anyone may query."""

    source: str
    per_day: list[dict[str, Any]]
    per_sku: list[dict[str, Any]]
    per_mode: list[dict[str, Any]]


def query_archive(home: Home) -> ArchiveSummary:
    """Count the current rows of every manifest; empty lists for an empty archive.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    with _manifests(home) as connection:
        return ArchiveSummary(
            source=home.archive.manifest_glob(),
            per_day=_records(connection, PER_DAY),
            per_sku=_records(connection, PER_SKU),
            per_mode=_records(connection, PER_MODE),
        )


def repeated_image_ids(home: Home) -> list[dict[str, Any]]:
    """Image ids with more than one row in the archive: ``image_id``, ``rows`` and ``days`` each.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    with _manifests(home) as connection:
        return _records(connection, REPEATED)


@contextmanager
def _manifests(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database whose view ``manifest`` is every published row."""
    import duckdb

    try:
        with _files(home) as files, duckdb.connect(":memory:") as connection:
            # A view cannot hold a prepared parameter, so the path is quoted by hand.
            # Manifests of earlier schemas lack columns, which are null then.
            quoted = files.replace("'", "''")
            source = f"read_parquet('{quoted}', union_by_name=true, hive_partitioning=false)"
            connection.execute(f"create view manifest as select * from {source}")
            yield connection
    except duckdb.Error as error:
        raise IntegrityError(
            f"the manifests {home.archive.manifest_glob()} cannot be queried "
            f"({str(error).splitlines()[0]}); `catalog-pipeline verify` names the "
            "damaged one"
        ) from error


@contextmanager
def _files(home: Home) -> Iterator[str]:
    """A glob of files with every published row, for as long as the context lasts.

    Copies: DuckDB opens a file several times, and a publication may replace it in between.
    They are not handed over as Arrow tables: DuckDB scans these on threads of Arrow, which
    may abort a process that ends.
    """
    from catalog_pipeline.stores.schemas import encode_manifest

    with TemporaryDirectory(prefix="catalog-pipeline-") as folder:

        def fetch(day: date) -> None:
            data = home.objects.read(manifest_key(day)).data
            (Path(folder) / f"dt={day}.parquet").write_bytes(data)

        home.objects.each_of(fetch, home.archive.days())
        # A glob must find something, even where no night has been published.
        (Path(folder) / "no-night.parquet").write_bytes(encode_manifest([]))
        yield f"{escape(folder)}/*.parquet"


def _records(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
