"""Comparison of several models on one query: its type, and the parts that need no pipeline."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from models.contract.vocabulary import check_candidate_fields, check_context_fields
from service.errors import NotReadyError
from service.experiments.ranking import Agreement, agreements
from service.generations.serving import Serving
from service.query import Query, Scores, Stages, sum_of


@dataclass(frozen=True)
class Comparison:
    """What several models answer to one query, and how far their rankings agree.

    Attributes:
        query: the request's query. The query of a model's scores has only the fields that the model knows.
        outcomes: model -> its scores, or the error that it failed with.
        top_k: candidates of each ranking, and of the overlaps.
        agreements: one for each pair of models that gave scores.
        stages: stage -> seconds: sums over the models, and the time of the agreements.
    """

    query: Query
    outcomes: Mapping[str, Scores | Exception]
    top_k: int
    agreements: Sequence[Agreement]
    stages: Mapping[str, float]


def check_fields(picked: Collection[Serving | NotReadyError | None], query: Query) -> None:
    """Reject context and candidate fields that no model has.

    Args:
        picked: what serves each of the models. If a model is not loaded, its fields are unknown: nothing is rejected.
        query: the request's query.

    Raises:
        RequestError: a field that none of the models has.
    """
    loaded = [serving for serving in picked if isinstance(serving, Serving)]
    if len(loaded) == len(picked):
        known = [serving.artifact.vocabulary for serving in loaded]
        check_context_fields(query.context, {name: None for one in known for name in one.context})
        candidate = {name: None for one in known for name in one.candidate}
        check_candidate_fields(query.candidate_fields, candidate)


def join(
    query: Query, outcomes: Mapping[str, Scores | Exception], top_k: int, stages: Stages
) -> Comparison:
    """Compare the rankings. Runs in a worker thread.

    Args:
        query: the request's query.
        outcomes: model -> its scores, or the error that it failed with.
        top_k: candidates that overlaps are computed from.
        stages: began when this was submitted.
    """
    stages.ended["queue"] = perf_counter()
    answers = {name: found for name, found in outcomes.items() if not isinstance(found, Exception)}
    pairs = agreements({name: answer.scores for name, answer in answers.items()}, top_k)
    stages.ended["agreement"] = perf_counter()
    total = sum_of([*(answer.stages for answer in answers.values()), stages.seconds()])
    return Comparison(query, outcomes, top_k, pairs, total)
