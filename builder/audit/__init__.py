"""Leak audit: does a rule that any model can read give labels away? Reads the ingested log and its batches only."""
