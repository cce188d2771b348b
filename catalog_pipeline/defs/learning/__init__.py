"""Concepts, learned in batched range runs, and the memory they leave behind."""
