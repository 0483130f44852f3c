"""How differently both models rank the same requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.gate.scored import Scored
from models.live.keys import shown_user
from models.replay.ranks import rank_distance, top_overlap

Floats = NDArray[np.float64]
Pair = tuple[str, Floats, Floats]
"""Name of a request, and its candidates' scores by the serving and by the new model."""
PERCENTILES = (50, 90, 99)
WORST = 5
"""Requests that the report names."""


@dataclass(frozen=True)
class Rankings:
    """Rank distances (`rank_distance`) of some requests.

    Attributes:
        requests: number of requests of two candidates or more.
        mean: mean distance.
        percentiles: percentile -> distance.
        top_overlap: mean share of the first ten that both models have.
        worst: the requests that differ most, with their distances.
        distances: of each request; not part of the JSON report.
    """

    requests: int
    mean: float
    percentiles: dict[str, float]
    top_overlap: float
    worst: list[tuple[str, float]]
    distances: Floats

    def to_dict(self) -> dict[str, Any]:
        """In JSON types, without the single distances."""
        return {name: value for name, value in vars(self).items() if name != "distances"}


def compare_rankings(pairs: Iterator[Pair] | Sequence[Pair]) -> Rankings | None:
    """Distances of the requests with at least two candidates; None without any."""
    names, distances, overlaps = [], [], []
    for name, old, new in pairs:
        if len(old) > 1:
            names.append(name)
            distances.append(rank_distance(old, new))
            overlaps.append(top_overlap(old, new))
    if not names:
        return None
    values = np.array(distances)
    order = np.argsort(-values, kind="stable")[:WORST]
    return Rankings(
        len(names),
        float(values.mean()),
        {str(p): float(np.percentile(values, p)) for p in PERCENTILES},
        float(np.mean(overlaps)),
        [(names[place], float(values[place])) for place in order],
        values,
    )


def newest_requests(
    scored: Scored, begin_s: NDArray[np.integer], user_ids: Sequence[str], count: int
) -> Iterator[Pair]:
    """The newest of the scored slates, as requests that are named by the hash of their user and their time.

    Args:
        scored: by two models.
        begin_s: epoch second of every slate of the part, [slates].
        user_ids: raw ids.
        count: largest number of requests.
    """
    order = np.argsort(scored.slate, kind="stable")
    slates, first, size = np.unique(scored.slate[order], return_index=True, return_counts=True)
    newest = np.argsort(-begin_s[slates], kind="stable")[:count]
    for place in newest:
        at = order[first[place] : first[place] + size[place]]
        user = shown_user(user_ids[scored.user[at[0]]])
        name = f"user {user} at {int(begin_s[slates[place]])}"
        yield name, scored.log_odds[0, at], scored.log_odds[1, at]
