"""From product folders to photo sets: listing, judging and normalising what people upload.

- :mod:`~catalog_pipeline.catalog.keys`: which folder names can be SKUs.
- :mod:`~catalog_pipeline.catalog.file_kinds`: what a file is by its name, and what is passed over.
- :mod:`~catalog_pipeline.catalog.card`: ``sku.yaml``, the product card.
- :mod:`~catalog_pipeline.catalog.sources`: a folder or a bucket as a list of SKUs.
- :mod:`~catalog_pipeline.catalog.photo_set`: decoding one SKU's photos under bounds.
- :mod:`~catalog_pipeline.catalog.feeds`: tables of products, as shops keep them.
- :mod:`~catalog_pipeline.catalog.product_folders`: the folders that an import writes.
- :mod:`~catalog_pipeline.catalog.index`: what a listing changes in the catalog index.
"""
