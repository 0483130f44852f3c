"""Baselines that a model has to beat: counts of matching events, and trees on such counts."""
