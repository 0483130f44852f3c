"""The two sides of `absorb replay --between`: a generation in the cache with its records, or an artifact alone.

An artifact that made no generation of the cache encodes the base histories of the current one
(`models/live/history.py`) by its own graph, through its own vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisClusterException, RedisError

from models.contract.age import age_buckets
from models.contract.artifact import Artifact, load_artifact
from models.contract.cache_url import redact_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import (
    AbsorbError,
    CacheUnavailableError,
    CorruptRecordError,
    ForeignRecordError,
)
from models.contract.generation import ARTIFACT_ID, Generation, Pointer, pointer_key
from models.contract.schema import FIRST_KNOWN
from models.live.history import BaseHistory, decode_history
from models.live.keys import history_key
from models.replay.captured import Captured
from service.generations.serving import load_serving
from service.runtime.encoder import Encoder
from service.runtime.engines.engine import State
from service.runtime.scorer import Scorer, Slate
from service.settings import Settings
from service.state.cached_user import read_record
from service.tools.published import connect, current_generation


class ReplayError(AbsorbError):
    """A side of a replay cannot be opened."""


@dataclass(frozen=True)
class Known:
    """A user's state on one side.

    Attributes:
        state: tensors, as the state spec says.
        recent: catalogue rows of the latest items.
        as_of_s: epoch second of the state.
    """

    state: State
    recent: NDArray[np.int64]
    as_of_s: int


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: as the user gave it.
        artifact: scores.
        scorer: of the artifact.
        generation: name of the generation whose records are read; None: states are encoded.
        state_of: user id -> state; None for a user without one, who is scored from the cold-start state.
    """

    name: str
    artifact: Artifact
    scorer: Scorer
    generation: str | None
    state_of: Callable[[str], Known | None]

    def score(self, request: Captured) -> tuple[NDArray[np.float64], int | None]:
        """Scores of a request's candidates, and `as_of_s` of the state; None for the cold start.

        Raises:
            ScoreError: the artifact cannot score the request.
        """
        words, known = self.artifact.vocabulary, self.state_of(request.user_id)
        context = words.context_ids(words.known_context(request.context))
        slate = Slate(
            self.scorer.cold_start if known is None else known.state,
            request.recent,
            np.zeros(0, np.int64) if known is None else known.recent,
            context,
            request.candidates,
            words.known_candidate_fields(request.fields),
            {},
        )
        (scored,) = self.scorer.score_many([slate])
        if isinstance(scored, Exception):
            raise scored
        return np.asarray(scored.scores), None if known is None else known.as_of_s


@contextmanager
def open_sides(
    settings: Settings, model: str | None, names: tuple[str, str]
) -> Iterator[tuple[Side, Side]]:
    """Open both sides over one connection to the settings' cache.

    Args:
        settings: address of the cache, folder of the artifacts.
        model: published model; None: the service's default model.
        names: of both sides, as in `open_side`.

    Raises:
        CacheUnavailableError: the cache does not answer.
        UnknownModelError: the model is not published.
        NotReadyError: nothing is published.
        ReplayError: as `open_side`.
        ArtifactError: as `open_side`.
    """
    url = resolve_cache_url(settings.cache_url)
    try:
        with connect(url) as client:
            name = current_generation(client, model or settings.default_model).model
            a, b = (open_side(client, settings.artifact_dir, name, one) for one in names)
            yield a, b
    except (RedisError, RedisClusterException) as error:
        raise CacheUnavailableError(redact_url(url), str(error)) from error


def open_side(client: Any, artifacts: Path, model: str, name: str) -> Side:
    """Open a side by its name.

    Args:
        client: the cache, which answers with bytes.
        artifacts: folder of all artifacts.
        model: name under which the model is served.
        name: "current", "previous", a generation's name, or an artifact's id.

    Raises:
        ReplayError: the cache holds no such generation, and no artifact has this id.
        ArtifactError: the artifact cannot be read or cannot score.
    """
    key = pointer_key(model)
    raw = client.get(key)
    if raw is None:
        raise ReplayError(f"model {model!r}: got no published generation, expected one")
    pointer = Pointer.from_bytes(raw, key)
    named = {"current": pointer.current}
    if pointer.previous is not None and pointer.previous.place != pointer.current.place:
        named["previous"] = pointer.previous
    for word, generation in named.items():
        if name in (word, generation.name, generation.artifact_id):
            return _of_generation(client, artifacts, generation, name)
    if not ARTIFACT_ID.fullmatch(name):
        known = ", ".join([*named, *(generation.name for generation in named.values())])
        raise ReplayError(
            f"--between: got {name!r}, expected one of: {known}, or the id of an artifact"
        )
    return _of_artifact(client, artifacts, pointer.current, name)


def _of_generation(client: Any, artifacts: Path, generation: Generation, name: str) -> Side:
    serving = load_serving(artifacts, generation, lambda model, artifact: Scorer(artifact, 1), None)

    def state_of(user_id: str) -> Known | None:
        raw = client.get(generation.key(user_id))
        if raw is None:
            return None
        try:
            record = read_record(raw, serving, user_id)
        except (CorruptRecordError, ForeignRecordError):
            return None  # as the service: scored from the cold-start state
        return Known(record.state, record.recent.astype(np.int64), record.as_of_s)

    return Side(name, serving.artifact, Scorer(serving.artifact, 1), generation.name, state_of)


def _of_artifact(client: Any, artifacts: Path, current: Generation, artifact_id: str) -> Side:
    own, theirs = (
        load_artifact(artifacts, artifact_id),
        load_artifact(artifacts, current.artifact_id),
    )
    encoder = Encoder(own, 1)

    def state_of(user_id: str) -> Known | None:
        raw = client.get(history_key(current, user_id))
        if raw is None:
            return None
        try:
            history = decode_history(raw, current.artifact_id, user_id)
        except (CorruptRecordError, ForeignRecordError):
            return None
        return _encoded(encoder, own, theirs, history)

    return Side(artifact_id, own, Scorer(own, 1), None, state_of)


def _encoded(encoder: Encoder, own: Artifact, theirs: Artifact, history: BaseHistory) -> Known:
    """A state of `own` of what `theirs` knew of a user: rows go through raw ids."""
    schema = own.manifest.schema
    items = theirs.vocabulary.items
    raw = [items[row - FIRST_KNOWN] if row >= FIRST_KNOWN else "" for row in history.rows]
    rows = own.vocabulary.item_rows(raw)
    ages = age_buckets(history.as_of_s - history.ts_s)
    profile = {
        name: values[dense - FIRST_KNOWN]
        for (name, values), dense in zip(
            theirs.vocabulary.user.items(), history.user_fields, strict=True
        )
        if dense >= FIRST_KNOWN
    }
    length, recent = schema.history_length, schema.recent_length
    state = encoder.state_of(rows[-length:], ages[-length:], own.vocabulary.user_ids(profile))
    return Known(state, rows[len(rows) - min(recent, len(rows)) :], history.as_of_s)
