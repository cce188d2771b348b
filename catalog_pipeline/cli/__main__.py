"""``python -m catalog_pipeline.cli``: the console script, without an installation."""

from catalog_pipeline.cli import app

app(prog_name="catalog-pipeline")
