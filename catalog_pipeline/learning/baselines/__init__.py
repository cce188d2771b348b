"""Rival lifelong methods under the harness of the benchmark: same base, photos, steps and seeds."""
