"""Dagster over the workflows: assets, checks, sensors, schedules and jobs, a package a room.

Nothing here trains, renders or decodes: every step calls one function of
``catalog_pipeline.workflows`` and turns its report into metadata a person reads.
Torch and diffusers are never imported while definitions load.
"""

import warnings

import dagster as dg

# Batched range runs are worth a beta parameter; the pinned Dagster keeps its meaning.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
