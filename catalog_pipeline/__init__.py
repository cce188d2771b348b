"""Lifelong product learning and multi-product scene rendering, run by Dagster."""

import os

__version__ = "0.1.0"

# Libraries that would tell their makers of their use unless this stands in the environment before
# they begin. ONNX Runtime, which looks for products in photos, does so from 1.32 on.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")
