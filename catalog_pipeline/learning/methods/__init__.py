"""Lifelong methods: what ships and its rivals, same base, photos, steps and seeds."""
