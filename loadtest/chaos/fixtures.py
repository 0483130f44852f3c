"""Fixtures of all scenarios: two artifacts with known scores, users' records by both, and queries."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.chaos.expected import Graphs, Query, make_histories, make_queries
from loadtest.chaos.process import ROOT
from models.contract.artifact import MANIFEST, Artifact, load_artifact
from models.contract.embedded_cache import stop_server
from models.contract.errors import ArtifactError

RECIPE = ROOT / "builder" / "recipes" / "tiny.toml"
STEPS = 12
"""Training steps: few, because the scores need not be good."""
SEEDS = (0, 1)


@dataclass(frozen=True)
class Fixtures:
    """Fixtures that every scenario uses.

    Attributes:
        artifacts: two artifacts of one shape with different weights.
        records: for each artifact, user -> encoded record.
        queries: queries with the scores expected from both artifacts.
    """

    artifacts: Sequence[Artifact]
    records: Sequence[Mapping[str, bytes]]
    queries: Sequence[Query]


def make_fixtures(artifacts: Sequence[Artifact]) -> Fixtures:
    """Make users, records and queries for some artifacts."""
    graphs = [Graphs(artifact) for artifact in artifacts]
    first = artifacts[0]
    histories = make_histories(first.vocabulary, first.manifest.schema.history_length)
    records = [graph.records(histories) for graph in graphs]
    return Fixtures(artifacts, records, make_queries(graphs, histories))


def trained_artifacts(root: Path) -> list[Artifact]:
    """Two small artifacts under `root`; the builder trains those that are missing.

    Raises:
        ArtifactError: the builder failed; with its output.
    """
    return [_trained(root / f"slots-{seed}", seed) for seed in SEEDS]


def _trained(root: Path, seed: int) -> Artifact:
    artifact = _load(root)
    if artifact is None:
        _build(root, seed)
        artifact = _load(root)
    if artifact is None:
        raise ArtifactError(f"artifact: got none under {root} from the builder, expected one")
    return artifact


def _load(root: Path) -> Artifact | None:
    names = [path.parent.name for path in sorted(root.glob(f"*/{MANIFEST}"))]
    return load_artifact(root, names[0]) if names else None


def _build(root: Path, seed: int) -> None:
    text = RECIPE.read_text()
    text = re.sub(r"^(steps|validate_every) = \d+", rf"\1 = {STEPS}", text, flags=re.M)
    # Item slots: their artifacts have a plan, so that the engine that serves by default is what is tested.
    text = text.replace('slots = "content"\ncounts = "table"\n', 'slots = "items"\n')
    text = text.replace("[train]\n", f"[train]\nseed = {seed}\n")
    with TemporaryDirectory(prefix="ab", dir="/tmp") as folder:
        recipe, cache = Path(folder) / "chaos.toml", Path(folder) / "cache"
        recipe.write_text(text)
        paths = {
            "ABSORB_CACHE_URL": f"embedded:{cache}",
            "ABSORB_ARTIFACT_DIR": str(root.resolve()),
            "ABSORB_RUNS_DIR": f"{folder}/runs",
        }
        command = [sys.executable, "-m", "builder", "run", str(recipe)]
        variables = {**os.environ, **paths}
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
        )
        stop_server(cache)
    if done.returncode:
        raise ArtifactError(f"artifact: the builder failed:\n{done.stdout}{done.stderr}")
