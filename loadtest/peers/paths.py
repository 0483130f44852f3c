"""Where the bench keeps things. Standard library only: the peers' own environments import it too."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "loadtest/peers"
WORK = ROOT / "var/peers"
JOB = WORK / "job.json"
"""What is served: cache, artifact folder, model."""
QUERIES = WORK / "queries.json"
RESULTS = WORK / "results"
PUBLISHED = ROOT / "loadtest/results/peers"
"""The table and the plot."""
