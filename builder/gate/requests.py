"""Captured requests, ranked by both artifacts from the states that a publish of this log would serve."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.latest import latest_events
from builder.errors import StepError
from builder.gate.rankings import Pair
from builder.gate.scoring import ArtifactScorer
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from models.batch import Batch, Context, Slate, User
from models.contract.schema import PADDING, UNKNOWN
from models.replay.captured import Captured, read_captured


def captured_requests(path: str, recipe: Recipe) -> list[Captured]:
    """The requests of the recipe's file.

    Raises:
        StepError: there is no such file, or it holds no request that can be replayed.
    """
    places = [place for place in recipe.places(path) if place.is_file()]
    if not places:
        looked = ", ".join(str(place) for place in recipe.places(path))
        raise StepError(f"gate.captured: got {path!r}, expected a file; looked at {looked}")
    try:
        return read_captured(Path(places[0]))[0]
    except (OSError, ValueError) as error:
        raise StepError(f"gate.captured: {error}") from error


def rank_captured(
    scorers: Sequence[ArtifactScorer], events: Events, requests: Sequence[Captured], count: int
) -> Iterator[Pair]:
    """The newest requests, ranked by both models. Users that the log does not know have an empty history.

    Args:
        scorers: of the serving and of the new artifact.
        events: the log, with histories long enough for both.
        requests: in the order of capture.
        count: largest number of requests.
    """
    users = {user: place for place, user in enumerate(events.user_ids)}
    as_of_s = events.as_of_s
    for request in requests[-count:]:
        batch = _batch(events, request, users.get(request.user_id), as_of_s)
        old, new = (np.nan_to_num(scorer.log_odds(batch)[0]) for scorer in scorers)
        yield f"request {request.request_id}", old, new


def _batch(events: Events, request: Captured, user: int | None, as_of_s: int) -> Batch:
    """One request as a batch in the log's ids."""
    schema, words = events.schema, events.vocabulary
    length = max(schema.history_length, schema.recent_length)
    latest, profile = (
        np.full((2, length), PADDING),
        np.full(len(schema.user_fields), UNKNOWN),
    )
    if user is not None:
        latest = latest_events(events, user, length, as_of_s)
        profile = np.asarray(events.user_fields[user])
    recent = latest[0, length - schema.recent_length :]
    if request.recent is not None:
        recent = np.zeros(schema.recent_length, np.int64)
        rows = words.item_rows(request.recent)[-schema.recent_length :]
        recent[len(recent) - len(rows) :] = rows
    start, count = length - schema.history_length, len(request.candidates)
    context = words.context_ids(words.known_context(request.context))
    fields = words.candidate_ids(words.known_candidate_fields(request.fields), count)
    return Batch.unweighted(
        User(_row(latest[0, start:]), _row(latest[1, start:]), _row(profile)),
        Context(_row(recent), _row(context)),
        Slate(_row(words.item_rows(request.candidates)), _row(fields)),
        torch.zeros(1, count),
        torch.ones(1, count, dtype=torch.bool),
    )


def _row(values: NDArray[np.integer]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))[None]
