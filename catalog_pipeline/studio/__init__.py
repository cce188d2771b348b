"""A procedural product studio: shapes, patterns, light and scenes with exact masks.

Everything is drawn with numpy, so the base model can be trained, and the sample
catalog written, from nothing but this package. Start at ``scenes`` (pictures with
known truth), ``sprites`` (one product on nothing) or ``sample_catalog``.
"""
