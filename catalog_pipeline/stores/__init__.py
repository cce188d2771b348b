"""Everything that outlives a process: objects, index, adapter versions, memory, archive.

One :class:`~catalog_pipeline.stores.objects.ObjectStore` (a folder or an S3 bucket)
carries all of it. See ``docs/stores.md`` for keys, schemas and crash behaviour.
"""
