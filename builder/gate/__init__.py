"""The promotion gate: the new artifact and the serving one score the same newest targets; the better one serves."""
