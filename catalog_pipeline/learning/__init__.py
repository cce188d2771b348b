"""Lifelong learning of product concepts: L2DM, arXiv:2309.04430."""
