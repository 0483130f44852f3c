"""The log's dense ids -> an artifact's own, through the raw values of both vocabularies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from builder.errors import OtherTaskError
from builder.ingest.events import Events
from models.batch import Batch
from models.contract.artifact import Artifact
from models.contract.field_reader import FieldReader
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN

MIN_SHARED = 0.5
"""Share of the log's events whose items an artifact must know; below, it was trained on another catalogue."""
Ints = NDArray[np.int64]
Feed = dict[str, Ints]


@dataclass(frozen=True)
class Inputs:
    """Tables from the log's ids to an artifact's.

    Attributes:
        items: row of the log's catalogue -> the artifact's row, [V].
        user: of each user field of the artifact, its column in the log and the table of its ids.
        context: the same of the context fields.
        candidate: the same of the candidate fields.
        length: L of the artifact.
        recent: N of the artifact.
    """

    items: Ints
    user: Sequence[tuple[int, Ints]]
    context: Sequence[tuple[int, Ints]]
    candidate: Sequence[tuple[int, Ints]]
    length: int
    recent: int

    def of_user(self, batch: Batch) -> Feed:
        """Inputs of the encode graph."""
        history, ages = batch.user.history.numpy(), batch.user.ages.numpy()
        start = history.shape[1] - self.length
        return {
            "history": self.items[history[:, start:]],
            "ages": np.ascontiguousarray(ages[:, start:]),
            "user_fields": _mapped(self.user, batch.user.fields.numpy()),
        }

    def of_request(self, batch: Batch) -> Feed:
        """Inputs of the score graph, beside the state."""
        recent = batch.context.recent.numpy()
        feed = {
            "recent": self.items[recent[:, recent.shape[1] - self.recent :]],
            "context_fields": _mapped(self.context, batch.context.fields.numpy()),
            "items": self.items[batch.slate.items.numpy()],
        }
        if self.candidate:
            feed["candidate_fields"] = _mapped(self.candidate, batch.slate.fields.numpy())
        return feed


def inputs_of(artifact: Artifact, events: Events) -> Inputs:
    """Tables for an artifact.

    Raises:
        OtherTaskError: the artifact reads fields that the log does not have, or knows less than `MIN_SHARED` of what
            was clicked in the log.
    """
    own, log = artifact.vocabulary, events.vocabulary
    items = np.concatenate([[PADDING, UNKNOWN], own.item_rows(list(log.items))])
    clicks = np.asarray(events.popularity)[FIRST_KNOWN:].astype(np.float64)
    shared = float(clicks @ (items[FIRST_KNOWN:] != UNKNOWN) / max(1.0, clicks.sum()))
    if shared < MIN_SHARED:
        raise OtherTaskError(
            artifact.artifact_id,
            f"its vocabulary has the items of {shared:.0%} of the log's events",
        )
    schema = artifact.manifest.schema
    return Inputs(
        items,
        _tables(artifact, "user", own.user, log.user),
        _tables(artifact, "context", own.context, log.context),
        _tables(artifact, "candidate", own.candidate, log.candidate),
        schema.history_length,
        schema.recent_length,
    )


def with_room_for(events: Events, artifacts: Sequence[Artifact]) -> Events:
    """The log with histories long enough for all of the artifacts."""
    schemas = [artifact.manifest.schema for artifact in artifacts]
    length = max(schema.history_length for schema in schemas)
    recent = max(schema.recent_length for schema in schemas)
    schema = replace(events.schema, history_length=length, recent_length=recent)
    return replace(events, schema=schema)


def _tables(
    artifact: Artifact,
    kind: Literal["user", "context", "candidate"],
    own: Mapping[str, Sequence[str]],
    log: Mapping[str, Sequence[str]],
) -> list[tuple[int, Ints]]:
    missing = sorted(own.keys() - log.keys())
    if missing:
        raise OtherTaskError(
            artifact.artifact_id,
            f"it reads the {kind} fields {', '.join(missing)}, which the log does not have",
        )
    columns = list(log)
    return [
        (columns.index(name), _table(artifact.vocabulary.reader(kind, name), log[name]))
        for name in own
    ]


def _table(reader: FieldReader, values: Sequence[str]) -> Ints:
    # The name of a bucket is a number of it, so that the log's numeric fields are read as those of a request.
    return np.concatenate([[PADDING, UNKNOWN], reader.ids(values)])


def _mapped(tables: Sequence[tuple[int, Ints]], ids: NDArray[np.integer]) -> Ints:
    """Ids of the artifact's fields, [..., own fields], from those of the log's fields, [..., fields]."""
    if not tables:
        return np.zeros((*ids.shape[:-1], 0), np.int64)
    return np.stack([table[ids[..., column]] for column, table in tables], -1)
