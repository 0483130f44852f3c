"""Stage 2: batches in, a checkpoint out."""
