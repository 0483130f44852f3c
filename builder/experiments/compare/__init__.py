"""Models side by side on one task: search, trainings, table, plots."""
