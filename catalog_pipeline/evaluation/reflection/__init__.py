"""The reflection score: is every named product there, once, as itself (docs/reflection.md)."""
