"""Stage 3: a checkpoint in, a report out: metrics, baselines, breakdowns."""
