"""Scenarios by the part that they break."""
