"""Blocks of the field models."""
