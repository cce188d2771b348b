"""``make demo``: the whole line on scratch folders, from photos to a query over the manifest.

Three products are learned and a night of scenes is rendered; then a fourth product is
dropped into the watched folder, found by the sensor, learned alone, and rendered beside
the first three. Learning and rendering are Dagster runs on a real instance under the
demo's home, so ``make dev`` shows them afterwards.

``tour`` is the story, ``scratch_home`` its folders and settings, ``line`` the Dagster
runs, ``results`` what is shown at the end.
"""
