"""After a step that changed what is served: index, checks and products as they are now."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.catalog.index_report import check_event, index_events, row_metadata
from catalog_pipeline.defs.learning.concept_events import CONCEPT_KEY
from catalog_pipeline.defs.learning.retention import claim_events
from catalog_pipeline.defs.learning.served import (
    MEMORY_KEY,
    not_served,
    not_served_events,
    served_check,
)
from catalog_pipeline.errors import StoreError

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home


def record_current_state(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, home: "Home"
) -> None:
    """Log the index with its check, what the gate measured of all that is served, and what is not.

    Steps that are not the checks' own record them too, because Dagster takes a check that is
    older than the newest materialization for one that has not been evaluated.
    """
    events: list[Any] = [
        *index_events(home, row_metadata(home.index.read(), home)),
        check_event(served_check(home), MEMORY_KEY),
        *not_served_events(context.instance, not_served(home)),
    ]
    try:
        events += claim_events(home, CONCEPT_KEY)
    except StoreError as error:  # said again, and loudly, by memory_head_is_consistent
        context.log.warning(f"what was forgotten is not known: {error}")
    for event in events:
        context.log_event(event)
