"""The ranker that every peer serves: read and decode the user's record, map ids to rows, run the score graph once.

A first version as it is written in an afternoon: a synchronous client, no cache, no fallback. It imports only light
modules of `models`, so it runs in each peer's environment.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from redis import Redis

from loadtest.peers.paths import JOB
from models.contract.artifact import SCORE, load_artifact
from models.contract.generation import Pointer, pointer_key
from models.contract.record import decode_record
from models.contract.schema import PADDING, UNKNOWN

Feed = dict[str, NDArray[Any]]
Fields = Mapping[str, Sequence[str]]
"""Candidate field -> value of each candidate."""
NO_FIELDS: Fields = {}


class Ranker:
    """Scores candidates for a user. Safe to use from several threads."""

    def __init__(self, job: Path = JOB) -> None:
        """Load the artifact of the current generation and connect to the cache, as `job` names them."""
        served = json.loads(job.read_text())
        # redis-py types every answer as bytes or str, though the client's settings decide which.
        self._redis = cast(Any, Redis.from_url(served["cache_url"]))
        key = pointer_key(served["model"])
        self._generation = Pointer.from_bytes(self._redis.get(key), key).current
        artifact_dir = Path(served["artifact_dir"])
        self._artifact = load_artifact(artifact_dir, self._generation.artifact_id)
        self._calibration = self._artifact.calibration()
        self._session = make_session(self._artifact.graph(SCORE))
        self._inputs = [node.name for node in self._session.get_inputs()]

    @property
    def candidate_fields(self) -> list[str]:
        """Names of the model's candidate fields that have known values: queries send these."""
        return [name for name, values in self._artifact.vocabulary.candidate.items() if values]

    def score_json(self, user_id: str, candidates: Sequence[Any]) -> NDArray[np.float64]:
        """Click probability of each candidate of a JSON request: ids, or objects with `id` and `fields`."""
        if not self.candidate_fields:
            return self.score(user_id, candidates)
        ids = [candidate["id"] for candidate in candidates]
        fields = {
            name: [candidate["fields"][name] for candidate in candidates]
            for name in self.candidate_fields
        }
        return self.score(user_id, ids, fields)

    def score(
        self, user_id: str, candidates: Sequence[str], fields: Fields = NO_FIELDS
    ) -> NDArray[np.float64]:
        """Click probability of each candidate."""
        log_odds = self.run(self.feed(user_id, candidates, fields)).astype(np.float64)
        if self._calibration is not None:
            log_odds = self._calibration.log_odds(log_odds)
        return 1 / (1 + np.exp(-log_odds))

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """Call ONNX Runtime; one logit per candidate."""
        (logits,) = self._session.run(["logits"], feed)
        return np.asarray(logits[0])

    def feed(self, user_id: str, candidates: Sequence[str], fields: Fields = NO_FIELDS) -> Feed:
        """Inputs of the graph for a request."""
        manifest, vocabulary = self._artifact.manifest, self._artifact.vocabulary
        raw = self._redis.get(self._generation.key(user_id))
        record = decode_record(raw, manifest.state_spec, self._generation.artifact_id, user_id)
        recent = np.full(manifest.schema.recent_length, PADDING, np.int64)
        latest = record.recent[-len(recent) :]
        recent[len(recent) - len(latest) :] = latest
        items = vocabulary.item_rows(candidates)
        values: Feed = {
            **record.state,
            "recent": recent,
            "context_fields": np.full(len(manifest.schema.context_fields), UNKNOWN, np.int64),
            "items": items,
            "candidate_fields": vocabulary.candidate_ids(fields, len(items)),
        }
        return {name: values[name][None] for name in self._inputs}


def make_session(graph: bytes) -> ort.InferenceSession:
    """Open the score graph on one CPU thread, with the service's session options."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
