"""From a found state and raw ids to probabilities: the part of a request that runs in the scorer's threads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import ArtifactError
from models.contract.schema import UNKNOWN
from service.generations.serving import Serving
from service.observability.metrics import Stages
from service.runtime.scorer import Ids, Slate, State
from service.runtime.workers import Workers
from service.scoring.split_slate import score_split

Scored = tuple[NDArray[np.float64], list[str]]
"""Probabilities in the order of the candidates, and those of them that the catalogue does not hold."""


@dataclass(frozen=True)
class Job:
    """One user's slate, to be scored.

    Attributes:
        serving: whose artifact made the state.
        state: the user's.
        recent: raw ids of the latest items; None takes `kept_recent`.
        kept_recent: catalogue rows of those in the user's record.
        context: ids of the context fields.
        candidates: raw item ids.
        stages: told when queue, decode and score are over.
    """

    serving: Serving
    state: State
    recent: Sequence[str] | None
    kept_recent: Ids
    context: Ids
    candidates: Sequence[str]
    stages: Stages


def compute(jobs: Sequence[Job], helpers: Workers | None = None) -> list[Scored | Exception]:
    """Score the slates of one artifact in one run of its graph.

    Args:
        jobs: at least one.
        helpers: threads that may take pieces of it; this is called in one of them.
    """
    slates = [_slate(job) for job in jobs]
    scorer = jobs[0].serving.scorer
    if helpers is not None and len(slates) == 1:
        results = [score_split(scorer, slates[0], helpers)]
    else:
        results = scorer.score_many(slates)
    return [_named(*one) for one in zip(jobs, slates, results, strict=True)]


def _slate(job: Job) -> Slate:
    job.stages.end("queue")
    item_rows = job.serving.artifact.vocabulary.item_rows
    recent = job.kept_recent if job.recent is None else item_rows(job.recent)
    slate = Slate(job.state, recent, job.context, item_rows(job.candidates))
    job.stages.end("decode")
    return slate


def _named(
    job: Job, slate: Slate, result: NDArray[np.float64] | ArtifactError
) -> Scored | Exception:
    job.stages.end("score")
    if isinstance(result, ArtifactError):
        return result
    return result, [job.candidates[at] for at in np.flatnonzero(slate.items == UNKNOWN).tolist()]


def unless_error(result: Scored | Exception) -> Scored:
    """The result; raises it if it is an error."""
    if isinstance(result, Exception):
        raise result
    return result
