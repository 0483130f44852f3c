"""The laboratory: comparisons and benchmarks. The nightly job imports nothing of it."""
