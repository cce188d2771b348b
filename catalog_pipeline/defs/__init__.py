"""Dagster over the workflows: assets, checks, sensors, schedules and jobs, a package a room.

Nothing here trains, renders or decodes: every step calls one function of
``catalog_pipeline.workflows`` and turns its report into metadata a person reads.
Torch and diffusers are never imported while definitions load.
"""

import warnings

import dagster as dg

# Range runs and owners are worth beta parameters; the pinned Dagster keeps their meaning.
for parameter in ("backfill_policy", "owners"):
    warnings.filterwarnings("ignore", message=f"Parameter `{parameter}`", category=dg.BetaWarning)
