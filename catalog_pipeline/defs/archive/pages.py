"""The pages for people that belong to a night, written once it is published, and their links."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from catalog_pipeline.dates import parse_day
from catalog_pipeline.defs.failures import fails_in_one_line
from catalog_pipeline.defs.labels import job_labels
from catalog_pipeline.defs.pictures import page
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.errors import CatalogPipelineError

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

WritePage = Callable[["Home", date], Path]


def page_writers() -> dict[str, WritePage]:
    """Name of the link -> what writes the page. A page of a night is a line here."""
    from catalog_pipeline.workflows.night.gallery import write_gallery
    from catalog_pipeline.workflows.night.night_report import write_night_report

    return {"report": write_night_report, "gallery": write_gallery}


def night_pages(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, home: "Home", day: date
) -> dict[str, Any]:
    """Write every page of ``day``; returns their links.

    A page that cannot be written is named in the log: the night itself is published.
    """
    links: dict[str, Any] = {}
    for name, write in page_writers().items():
        try:
            path = write(home, day)
        except CatalogPipelineError as error:
            context.log.warning(f"the {name} of {day} was not written: {error}")
            continue
        links[name] = page(path, context.instance)
        links[f"{name} file"] = dg.MetadataValue.path(str(path))
    return links


class PagesConfig(dg.Config):
    """Which night."""

    day: str = Field(description="The night whose pages are written anew, as YYYY-MM-DD.")


@dg.op
@fails_in_one_line
def write_pages(
    context: dg.OpExecutionContext, config: PagesConfig, pipeline: PipelineResource
) -> None:
    """Write the pages of a published night anew and link them."""
    day = parse_day(config.day.strip())
    links = night_pages(context, pipeline.opened, day)
    if not links:
        raise dg.Failure(
            f"no page of {day} could be written; the warnings above say why", allow_retries=False
        )
    context.add_output_metadata(links)


@dg.job(
    description="Writes the pages of a published night anew, such as its gallery, and links them.",
    executor_def=dg.in_process_executor,
    **job_labels("archive"),
)
def write_night_pages() -> None:
    """One step; see docs/operations.md."""
    write_pages()
