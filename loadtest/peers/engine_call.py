"""An engine of the service on the job's artifact, called as the service calls it, without anything around it."""

import json
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from loadtest.peers.paths import JOB
from loadtest.peers.queries import Query
from models.contract.artifact import load_artifact
from models.contract.generation import Pointer, pointer_key
from models.contract.record import decode_record
from service.runtime.engines.engine import EngineSlate, Logits
from service.runtime.scorer import Scorer, probabilities


class EngineCall:
    """One engine, with what turns queries into its inputs."""

    def __init__(self, engine: str, job: Path = JOB) -> None:
        """Load the artifact of the current generation, connect to the cache, open the engine with one thread.

        Raises:
            ValueError: this machine or this artifact does not have the engine.
        """
        served = json.loads(job.read_text())
        self._redis = Redis.from_url(served["cache_url"])
        key = pointer_key(served["model"])
        pointer = cast(bytes, self._redis.get(key))
        self._generation = Pointer.from_bytes(pointer, key).current
        artifact_dir = Path(served["artifact_dir"])
        self._artifact = load_artifact(artifact_dir, self._generation.artifact_id)
        self._calibration = self._artifact.calibration()
        choice = Scorer(self._artifact, 1, engine).choice
        if choice.engine.name != engine:
            raise ValueError(f"engine {engine}: {choice.refused.get(engine, choice.reason)}")
        self._engine = choice.engine

    def slate(self, query: Query) -> EngineSlate:
        """The engine's inputs for a query."""
        manifest, vocabulary = self._artifact.manifest, self._artifact.vocabulary
        raw = cast(bytes, self._redis.get(self._generation.key(query.user_id)))
        spec, artifact_id = manifest.state_spec, self._generation.artifact_id
        record = decode_record(raw, spec, artifact_id, query.user_id, manifest.schema.recent_length)
        items = vocabulary.item_rows(query.candidates)
        return EngineSlate(
            record.state,
            record.recent.astype(np.int64),
            vocabulary.context_ids({}),
            items,
            vocabulary.candidate_ids(query.fields, len(items)),
        )

    def run(self, slate: EngineSlate) -> Logits:
        """Call the engine.

        Raises:
            ScoreError: the engine could not score.
        """
        (logits,) = self._engine.score_many([slate])
        if isinstance(logits, Exception):
            raise logits
        return logits

    def scores(self, slate: EngineSlate) -> NDArray[np.float64]:
        """Click probability of each candidate."""
        return probabilities(self.run(slate), self._calibration)
