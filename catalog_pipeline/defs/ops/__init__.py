"""Operating the instance: purging old runs, ticking the watcher without a daemon."""
