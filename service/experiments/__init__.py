"""Experiments: traffic splits and shadow models."""
