"""The one Definitions object: ``dagster``, ``dg`` and the code server load this module.

Every asset, check, job, schedule and sensor of a module below ``defs`` is in it.
"""

import warnings

import dagster as dg

from catalog_pipeline import defs as defs_package
from catalog_pipeline.defs.resources import PipelineResource
from catalog_pipeline.settings import check_dagster_home

check_dagster_home()

with warnings.catch_warnings():
    # A preview; the pinned Dagster keeps its meaning.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    defs = dg.load_definitions_from_package_module(
        defs_package,
        resources={"pipeline": PipelineResource()},
        # A step in a child process outlives a killed run and trains on, holding nothing.
        executor=dg.in_process_executor,
    )
