"""Scores a query from the state that was found; from the cold-start state if a user's record gives no score."""

import logging
from collections.abc import Awaitable, Callable

from models.contract.vocabulary import check_candidate_fields
from service.errors import BrokenModelError, ScoreError
from service.generations.serving import Serving
from service.observability.metrics import FROM_A_RECORD
from service.query import FoundState, Query, Stages, cold_start
from service.runtime.scorer import Ids, Scored, Scorer, Slate

Run = Callable[[Scorer, Slate], Awaitable[Scored]]

log = logging.getLogger(__name__)


def context_ids(serving: Serving, query: Query) -> Ids:
    """Ids of the context fields, once the names of all fields are known to be the model's.

    Raises:
        RequestError: a context or candidate field that the model does not have.
    """
    vocabulary = serving.artifact.vocabulary
    check_candidate_fields(query.candidate_fields, vocabulary.candidate)
    return vocabulary.context_ids(query.context)


async def score_found(
    picked: Serving, found: FoundState, query: Query, context: Ids, stages: Stages, run: Run
) -> tuple[FoundState, Scored]:
    """Score a query.

    A record can be well formed and its state still give no score: numbers so large that sums overflow, or ids on which
    the graph fails. If the cold-start state gives scores, the record is to blame, and it is corrupt; if not, the model
    is.

    Args:
        picked: generation that was picked for the request.
        found: the user's state.
        query: the request's query.
        context: ids of the context fields, as the artifact of `picked` has them.
        stages: the scorer notes its stages here.
        run: runs the scorer on the slate.

    Returns:
        The state that the scores are from, which is `found` unless its record gives no score, and the scores.

    Raises:
        BrokenModelError: the cold-start state gives no score.
        Exception: what else `run` raises.
    """
    try:
        return found, await run(found.serving.scorer, _slate(picked, found, query, context, stages))
    except ScoreError as error:
        if error.__cause__ is not None:
            fields = {"model": picked.generation.model, "error": str(error.__cause__)}
            log.warning("the score graph failed", extra=fields)
        if found.source not in FROM_A_RECORD:
            raise BrokenModelError(error.problem, picked.generation) from error
        problem = f"record: with its state, {error.problem}"
    cold = cold_start(picked, "corrupt", found.tier, problem)
    return await score_found(picked, cold, query, context, stages, run)


def _slate(picked: Serving, found: FoundState, query: Query, context: Ids, stages: Stages) -> Slate:
    """What the scorer of `found.serving` scores.

    During a rolling publish a record may be of an older artifact than `picked`, with other fields.
    """
    if found.serving is not picked:
        older = found.serving.artifact.vocabulary
        query = query.known_to(older)
        context = older.context_ids(query.context)
    return Slate(
        found.state,
        query.recent,
        found.recent,
        context,
        query.candidates,
        query.candidate_fields,
        stages.ended,
    )
