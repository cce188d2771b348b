"""The manifest of a night and a summary over all of them."""
