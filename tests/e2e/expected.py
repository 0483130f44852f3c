"""What a generation must answer: its artifact's own graphs on its own records, without the service."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from builder.publish.cache import CacheClient
from models.contract.artifact import ENCODE, SCORE, Artifact, load_artifact
from models.contract.generation import Generation
from models.contract.record import decode_record
from models.contract.schema import PADDING, UNKNOWN
from models.contract.state_spec import RecordDtype
from tests.e2e.traffic import Answer, Ask

LIMIT = 1e-4
"""Largest difference of a score."""
COLD = ("miss", "unavailable")
"""Sources that are scored from the cold-start state."""


@dataclass
class Expected:
    """One trained model and the records that it made.

    Attributes:
        artifact: the model.
        records: user id -> bytes in the cache.
        dtype: dtype of the records.
    """

    artifact: Artifact
    records: Mapping[str, bytes]
    dtype: RecordDtype
    _scores: dict[tuple[Ask, bool], NDArray[np.float64]] = field(default_factory=dict)

    def scores(self, ask: Ask, is_cold: bool) -> NDArray[np.float64]:
        """Click probabilities of the candidates."""
        key = (ask, is_cold)
        if key not in self._scores:
            self._scores[key] = self._score(ask, is_cold)
        return self._scores[key]

    def _score(self, ask: Ask, is_cold: bool) -> NDArray[np.float64]:
        spec, vocabulary = self.artifact.manifest.state_spec, self.artifact.vocabulary
        state, recent = self._cold_state, np.zeros(0, np.int64)
        if not is_cold:
            raw = self.records[ask.user]
            record = decode_record(raw, spec, self.artifact.artifact_id, ask.user)
            state, recent = dict(record.state), record.recent.astype(np.int64)
        if ask.recent is not None:
            recent = vocabulary.item_rows(ask.recent)
        length = self.artifact.manifest.schema.recent_length
        padding = np.full(length, PADDING, np.int64)
        feed = {name: tensor[None] for name, tensor in state.items()} | {
            "recent": np.concatenate([padding, recent])[-length:][None],
            "context_fields": vocabulary.context_ids(ask.context)[None],
            "items": vocabulary.item_rows(ask.candidates)[None],
            "candidate_fields": vocabulary.candidate_ids({}, len(ask.candidates))[None],
        }
        (logits,) = _run(self._score_graph, feed)
        log_odds, calibration = logits[0].astype(np.float64), self.artifact.calibration()
        if calibration is not None:
            log_odds = calibration.log_odds(log_odds)
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-log_odds))
        return scores

    @cached_property
    def _cold_state(self) -> dict[str, NDArray[np.float32]]:
        manifest = self.artifact.manifest
        empty = np.full((1, manifest.schema.history_length), PADDING, np.int64)
        profile = np.full((1, len(manifest.schema.user_fields)), UNKNOWN, np.int64)
        graph = ort.InferenceSession(self.artifact.graph(ENCODE))
        found = _run(graph, {"history": empty, "ages": empty, "user_fields": profile})
        return {
            spec.name: tensor[0] for spec, tensor in zip(manifest.state_spec, found, strict=True)
        }

    @cached_property
    def _score_graph(self) -> ort.InferenceSession:
        return ort.InferenceSession(self.artifact.graph(SCORE))


def _run(graph: ort.InferenceSession, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    kept = {node.name for node in graph.get_inputs()}
    found: list[NDArray[Any]] = graph.run(None, {k: v for k, v in feed.items() if k in kept})
    return found


def read_expected(client: CacheClient, generation: Generation, artifacts: Path) -> Expected:
    """The model and the records of a generation, read from the cache and the artifact folder."""
    start = len(generation.key(""))
    keys = [key.decode() for key in client.scan_iter(generation.key_pattern(), 1000)]
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.get(key)
        found = pipeline.execute()
    records = {key[start:]: raw for key, raw in zip(keys, found, strict=True)}
    assert len(records) == generation.num_users
    artifact = load_artifact(artifacts, generation.artifact_id)
    return Expected(artifact, records, generation.dtype)


def assert_of_one_generation(answers: Iterable[Answer], expected: Mapping[str, Expected]) -> None:
    """Every answer is a 200 whose every score is what the generation that it names gives."""
    for answer in answers:
        assert answer.status == 200, answer.body
        truth = expected[answer.body["generation"]]
        assert answer.body["artifact_id"] == truth.artifact.artifact_id
        found = "hit" if answer.ask.user in truth.records else "miss"
        assert answer.source in (found, "unavailable"), answer.body
        scores = truth.scores(answer.ask, answer.source in COLD)
        assert len(answer.body["scores"]) == len(scores)
        np.testing.assert_allclose(answer.body["scores"], scores, rtol=0, atol=LIMIT)
