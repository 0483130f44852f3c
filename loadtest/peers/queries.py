"""The queries: users by Zipf's law, slates of exactly B items with fields, expected scores of the first queries."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from loadtest.peers.paths import JOB, QUERIES
from loadtest.peers.ranker import Ranker
from loadtest.traffic import ITEM_EXPONENT, USER_EXPONENT, Zipf
from service.tools.published import Published

SLATES = (200, 1000)
"""B, numbers of candidates of a request."""
QUERIES_OF_A_SLATE = 500
CHECKED = 20
SEED = 20261125


@dataclass(frozen=True)
class Query:
    """One request and its expected scores.

    Attributes:
        user_id: id of a user with a record.
        candidates: item ids.
        scores: expected scores; empty if they are not checked.
        fields: candidate field -> value of each candidate; empty for a model without candidate fields.
    """

    user_id: str
    candidates: list[str]
    scores: list[float]
    fields: dict[str, list[str]] = field(default_factory=dict)

    def first(self, count: int) -> "Query":
        """The same request with the first candidates only; its scores are not checked."""
        fields = {name: values[:count] for name, values in self.fields.items()}
        return replace(self, candidates=self.candidates[:count], fields=fields, scores=[])


def write_job(published: Published, cache_url: str, artifact_dir: Path) -> None:
    """Write the file that names what every server serves."""
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
    """Draw the queries and score the checked ones in process. A generation always gives the same queries."""
    rng, ranker = np.random.default_rng(SEED), Ranker()
    users = rng.permutation(sorted(published.users))
    vocabulary = published.artifact.vocabulary
    items = rng.permutation(np.array(vocabulary.items))
    user_rank = Zipf(len(users), USER_EXPONENT)
    weight = np.arange(1, len(items) + 1, dtype=np.float64) ** -ITEM_EXPONENT
    drawn: dict[int, list[Query]] = {}
    for slate in SLATES:
        drawn[slate] = []
        for number, rank in enumerate(user_rank.draw(rng, QUERIES_OF_A_SLATE)):
            user = str(users[rank])
            # Smallest values of exponential noise over weight: a draw without replacement in one sort. A
            # catalogue that is smaller than the slate is repeated.
            noise = rng.exponential(size=len(items)) / weight
            slated = np.resize(items[np.argsort(noise)[:slate]], slate).tolist()
            fields = {
                name: rng.choice(list(values), slate).tolist()
                for name, values in vocabulary.candidate.items()
                if values
            }
            scores = ranker.score(user, slated, fields).tolist() if number < CHECKED else []
            drawn[slate].append(Query(user, slated, scores, fields))
    content = {str(slate): [asdict(q) for q in queries] for slate, queries in drawn.items()}
    QUERIES.write_text(json.dumps(content))


def read_queries() -> dict[int, list[Query]]:
    """B -> queries."""
    content = json.loads(QUERIES.read_text())
    return {int(slate): [Query(**q) for q in queries] for slate, queries in content.items()}
