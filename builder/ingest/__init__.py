"""Stage 1: raw logs in, sorted and split `Events` out."""
