"""Layers used by two or more models. Plain keyword numbers in, no config."""
