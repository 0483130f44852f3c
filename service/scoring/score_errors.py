"""What a score that cannot be used means: the user's record is to blame, or the model."""

import logging

from service.errors import BrokenModelError, ScoreError
from service.generations.serving import Serving
from service.observability.metrics import FROM_A_RECORD
from service.query import FoundState, cold_start

log = logging.getLogger(__name__)


def state_after(error: ScoreError, picked: Serving, found: FoundState) -> FoundState:
    """The state to score from after the found state gave no score.

    A record can be well formed and its state still give no score: numbers so large that sums overflow, or ids on which
    the graph fails. If the cold-start state gives scores, the record is to blame, and it is corrupt; if not, the model
    is.

    Args:
        error: why there is no score.
        picked: generation that was picked for the request.
        found: the state that gave no score.

    Raises:
        BrokenModelError: it was the cold-start state.
    """
    if error.__cause__ is not None:
        fields = {"model": picked.generation.model, "error": str(error.__cause__)}
        log.warning("the score graph failed", extra=fields)
    if found.source not in FROM_A_RECORD:
        raise BrokenModelError(error.problem, picked.generation) from error
    problem = f"record: with its state, {error.problem}"
    return cold_start(picked, "corrupt", found.tier, problem)
