"""Decide and score: admission, fallbacks, computation."""
