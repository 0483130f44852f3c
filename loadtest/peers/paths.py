"""Paths of the bench. Standard library only, because the peers' environments import it too."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "loadtest/peers"
WORK = ROOT / "var/peers"
JOB = WORK / "job.json"
"""File that names what is served: cache, artifact folder, model."""
QUERIES = WORK / "queries.json"
RESULTS = WORK / "results"
PUBLISHED = ROOT / "loadtest/results/peers"
"""Folder of the table and the plot."""
