"""Attention: weights of events for candidates, and what attends inside a history."""
