"""What is asked: users by Zipf's law, slates of exactly B items, and the right answers to the first of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from loadtest.peers.paths import JOB, QUERIES
from loadtest.peers.ranker import Ranker
from loadtest.traffic import ITEM_EXPONENT, USER_EXPONENT, Zipf
from service.tools.published import Published

SLATES = (200, 1000)
"""B, candidates of a request."""
QUERIES_OF_A_SLATE = 500
CHECKED = 20
SEED = 20261125


@dataclass(frozen=True)
class Query:
    """One request and its answer; `scores` is empty where nobody checks them."""

    user_id: str
    candidates: list[str]
    scores: list[float]


def write_job(published: Published, cache_url: str, artifact_dir: Path) -> None:
    """Say what every server serves."""
    JOB.parent.mkdir(parents=True, exist_ok=True)
    job = {
        "cache_url": cache_url,
        "artifact_dir": str(artifact_dir.resolve()),
        "model": published.generation.model,
        "generation": published.generation.name,
        "artifact_id": published.generation.artifact_id,
    }
    JOB.write_text(json.dumps(job, indent=1))


def write_queries(published: Published) -> None:
    """Draw the queries, always the same ones for a generation, and score the checked ones in process."""
    rng, ranker = np.random.default_rng(SEED), Ranker()
    users = rng.permutation(sorted(published.users))
    items = rng.permutation(np.array(published.artifact.vocabulary.items))
    user_rank = Zipf(len(users), USER_EXPONENT)
    weight = np.arange(1, len(items) + 1, dtype=np.float64) ** -ITEM_EXPONENT
    drawn: dict[int, list[Query]] = {}
    for slate in SLATES:
        drawn[slate] = []
        for number, rank in enumerate(user_rank.draw(rng, QUERIES_OF_A_SLATE)):
            user = str(users[rank])
            # The smallest of exponential noise over weight: a draw without repetition, in one sort. A
            # catalogue smaller than the slate repeats itself.
            noise = rng.exponential(size=len(items)) / weight
            slated = np.resize(items[np.argsort(noise)[:slate]], slate).tolist()
            scores = ranker.score(user, slated).tolist() if number < CHECKED else []
            drawn[slate].append(Query(user, slated, scores))
    found = {str(slate): [asdict(one) for one in queries] for slate, queries in drawn.items()}
    QUERIES.write_text(json.dumps(found))


def read_queries() -> dict[int, list[Query]]:
    """B -> its queries."""
    found = json.loads(QUERIES.read_text())
    return {int(slate): [Query(**one) for one in queries] for slate, queries in found.items()}
