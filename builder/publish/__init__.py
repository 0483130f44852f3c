"""Stage 5: everything that talks to the cache."""
