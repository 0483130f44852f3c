"""Markdown tables and figures that the experiments share."""
