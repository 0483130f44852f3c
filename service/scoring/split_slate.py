"""A long slate in pieces, one for each thread that has nothing to do: on a quiet service a request waits half as long.

Candidates do not see each other, so the pieces' scores are the slate's. Where every thread is busy the slate stays
whole: then pieces would but compute the user's part more than once.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import ArtifactError
from service.runtime.scorer import CPU, Scorer, Slate
from service.runtime.workers import Workers

LEAST = 64
"""Candidates in a piece: with fewer, what is the user's and done once for each piece is most of the work."""

Scored = NDArray[np.float64] | ArtifactError


def score_split(scorer: Scorer, slate: Slate, workers: Workers) -> Scored:
    """What `scorer.score_many` gives for the slate; called in one of the workers' threads.

    A piece that no thread has begun when this one is through with its own is done here, so this never waits for a
    thread to be free.
    """
    pieces = _pieces(slate, workers) if scorer.provider == CPU else [slate]
    if len(pieces) == 1:
        return _score(scorer, slate)
    given = [workers.submit(_score, scorer, piece) for piece in pieces[1:]]
    found = [_score(scorer, pieces[0])]
    for piece, future in zip(pieces[1:], given, strict=True):
        found.append(_score(scorer, piece) if future.cancel() else future.result())
    return _joined(found)


def _pieces(slate: Slate, workers: Workers) -> list[Slate]:
    number = max(1, min(1 + workers.num_idle, len(slate.items) // LEAST))
    if number == 1:
        return [slate]
    return [replace(slate, items=items) for items in np.array_split(slate.items, number)]


def _score(scorer: Scorer, slate: Slate) -> Scored:
    (scores,) = scorer.score_many([slate])
    return scores


def _joined(found: list[Scored]) -> Scored:
    scores = []
    for one in found:
        if isinstance(one, ArtifactError):
            return one
        scores.append(one)
    return np.concatenate(scores)
