"""A product feed: a table with one or more rows a product, as shops and teams keep it.

- :mod:`~catalog_pipeline.catalog.feeds.readers`: CSV, Parquet and Excel as rows of text.
- :mod:`~catalog_pipeline.catalog.feeds.columns`: which column says what.
- :mod:`~catalog_pipeline.catalog.feeds.cells`: lists, lengths and SKUs as people write them.
- :mod:`~catalog_pipeline.catalog.feeds.nouns`: a class noun from a shop's product type.
- :mod:`~catalog_pipeline.catalog.feeds.products`: rows to products, or what is wrong with them.
"""
