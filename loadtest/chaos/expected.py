"""Expected scores of each query by each artifact, computed from the graphs without the service.

Users have generated histories; the artifact's encode graph makes their states, as in the builder. A query is answered
from the user's record or, without one, from the cold-start state. Both scores are computed before the run, so every
answer can be checked against the artifact and the state that it names.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import orjson
from numpy.typing import NDArray

from loadtest.chaos.protocols import columns_of
from models.contract.artifact import ENCODE, SCORE, Artifact
from models.contract.record import UserRecord, encode_record
from models.contract.schema import PADDING, UNKNOWN
from models.contract.vocabulary import Vocabulary

MODEL = "chaos"
"""Name under which both artifacts are published in turn."""
NUM_USERS = 40
NUM_QUERIES = 64
NUM_CANDIDATES = 30
SHARE_UNKNOWN_USERS = 0.05
SHARE_WITHOUT_RECENT = 0.5
LIMIT = 1e-5
"""Largest allowed difference of a score: that of the native engine."""
EVENT_AGE = 1

Origin = Literal["record", "cold"]
Ids = NDArray[np.int64]
State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Query:
    """One request that is sent repeatedly.

    Attributes:
        body: body of a request to /v1/score.
        is_known: the user has a record.
        expected: artifact id -> origin of the state -> scores.
    """

    body: dict[str, Any]
    is_known: bool
    expected: dict[str, dict[Origin, list[float]]]

    def matches(self, scores: Sequence[float], artifact_id: str, origin: Origin) -> bool:
        """Whether scores are those of the artifact from a state of that origin."""
        expected = self.expected[artifact_id][origin]
        return len(scores) == len(expected) and bool(
            np.abs(np.subtract(scores, expected)).max(initial=0.0) <= LIMIT
        )


class Graphs:
    """An artifact's two graphs on one thread, for one user at a time."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self._calibration = artifact.calibration()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._encode, self._score = (
            ort.InferenceSession(artifact.graph(name), options, ["CPUExecutionProvider"])
            for name in (ENCODE, SCORE)
        )

    def state(self, history: Sequence[str]) -> State:
        """State of a user with these events and no profile."""
        schema = self.artifact.manifest.schema
        rows = self.artifact.vocabulary.item_rows(history)
        feed = {
            "history": _padded(rows, schema.history_length)[None],
            "ages": _padded(np.full(len(rows), EVENT_AGE), schema.history_length)[None],
            "user_fields": np.full((1, len(schema.user_fields)), UNKNOWN, np.int64),
        }
        names = [tensor.name for tensor in self.artifact.manifest.state_spec]
        values_of_names = self._encode.run(names, _inputs_of(self._encode, feed))
        return {name: values[0] for name, values in zip(names, values_of_names, strict=True)}

    def scores(self, state: State, recent: Ids, body: dict[str, Any]) -> list[float]:
        """Click probabilities of the candidates of a request."""
        vocabulary, schema = self.artifact.vocabulary, self.artifact.manifest.schema
        fields = columns_of(body["candidates"])
        items = fields.pop("candidates")
        feed = {
            **{name: values[None] for name, values in state.items()},
            "recent": _padded(recent, schema.recent_length)[None],
            "context_fields": vocabulary.context_ids(body["context"])[None],
            "items": vocabulary.item_rows(items)[None],
            "candidate_fields": vocabulary.candidate_ids(fields, len(items))[None],
        }
        (logits,) = self._score.run(["logits"], _inputs_of(self._score, feed))
        log_odds = logits[0].astype(np.float64)
        if self._calibration is not None:
            log_odds = self._calibration.log_odds(log_odds)
        return [float(p) for p in 1 / (1 + np.exp(-log_odds))]

    def answers(self, body: dict[str, Any], history: Sequence[str]) -> dict[Origin, list[float]]:
        """Expected scores of a request from the user's record and from the cold-start state."""
        rows = self.artifact.vocabulary.item_rows
        given = rows(body["recent"]) if "recent" in body else None
        own = rows(history[-self.artifact.manifest.schema.recent_length :])
        nothing = np.zeros(0, np.int64)
        return {
            "record": self.scores(self.state(history), own if given is None else given, body),
            "cold": self.scores(self.state([]), nothing if given is None else given, body),
        }

    def records(self, histories: dict[str, list[str]]) -> dict[str, bytes]:
        """User -> encoded record, as the builder writes it."""
        manifest = self.artifact.manifest
        records = {}
        for user, history in histories.items():
            rows = self.artifact.vocabulary.item_rows(history[-manifest.schema.recent_length :])
            state = self.state(history)
            record = UserRecord(user, manifest.as_of_s, rows.astype(np.int32), state)
            spec, artifact_id = manifest.state_spec, self.artifact.artifact_id
            records[user] = encode_record(record, spec, artifact_id, "fp32")
        return records


def make_histories(vocabulary: Vocabulary, longest: int, seed: int = 0) -> dict[str, list[str]]:
    """User -> events of a generated history, oldest first."""
    rng = np.random.default_rng(seed)
    items = list(vocabulary.items)
    return {
        f"user-{number}": [str(item) for item in rng.choice(items, rng.integers(4, longest + 1))]
        for number in range(NUM_USERS)
    }


def make_queries(
    graphs: Sequence[Graphs], histories: dict[str, list[str]], seed: int = 0
) -> list[Query]:
    """Queries with the scores expected from each artifact."""
    rng = np.random.default_rng(seed)
    vocabulary = graphs[0].artifact.vocabulary
    queries = []
    for number in range(NUM_QUERIES):
        body = _body(rng, vocabulary, list(histories), number)
        # A user without a record is answered from the cold-start state.
        history = histories.get(body["user_id"], [])
        expected = {g.artifact.artifact_id: g.answers(body, history) for g in graphs}
        queries.append(Query(body, body["user_id"] in histories, expected))
    return queries


def _body(
    rng: np.random.Generator, vocabulary: Vocabulary, users: list[str], number: int
) -> dict[str, Any]:
    unknown = rng.random() < SHARE_UNKNOWN_USERS
    items = [*vocabulary.items, "no-such-item"]
    context = {name: str(rng.choice(list(v))) for name, v in vocabulary.context.items() if v}
    body = {
        "user_id": f"stranger-{number}" if unknown else str(rng.choice(users)),
        "candidates": _slate(rng, items, vocabulary),
        "context": context,
    }
    if rng.random() >= SHARE_WITHOUT_RECENT:
        body["recent"] = [str(item) for item in rng.choice(items, 3)]
    return body


def _slate(rng: np.random.Generator, items: list[str], vocabulary: Vocabulary) -> list[Any]:
    """Ids, or objects with a value of each candidate field, some of which training has not seen."""
    ids = [str(item) for item in rng.choice(items, NUM_CANDIDATES)]
    if not vocabulary.candidate:
        return ids
    known = {name: [*values, "no-such-value"] for name, values in vocabulary.candidate.items()}
    return [
        {"id": item, "fields": {name: str(rng.choice(values)) for name, values in known.items()}}
        for item in ids
    ]


def save_queries(queries: Sequence[Query], path: Path) -> None:
    """Write as JSON, for the client process."""
    path.write_bytes(orjson.dumps([asdict(query) for query in queries]))


def load_queries(path: Path) -> list[Query]:
    """Inverse of `save_queries`."""
    return [Query(**fields) for fields in orjson.loads(path.read_bytes())]


def _padded(rows: Ids, length: int) -> Ids:
    latest = rows[max(len(rows) - length, 0) :]
    return np.concatenate([np.full(length - len(latest), PADDING, np.int64), latest])


def _inputs_of(session: ort.InferenceSession, feed: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {node.name: feed[node.name] for node in session.get_inputs()}
