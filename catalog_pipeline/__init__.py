"""Lifelong product learning and multi-product scene rendering, run by Dagster."""

__version__ = "0.1.0"
