"""An artifact scores batches of the log by its exported graphs, from states that went through record bytes."""

import numpy as np
from numpy.typing import NDArray

from builder.export.session import Feed, open_graph, run_graph
from builder.gate.inputs import Inputs
from models.batch import Batch
from models.contract.artifact import ENCODE, SCORE, Artifact
from models.contract.record import UserRecord, decode_record, encode_record
from models.contract.state_spec import RecordDtype, stack_states

Floats = NDArray[np.float64]


class ArtifactScorer:
    """Scores as the service would, from records of a dtype.

    Args:
        artifact: whose graphs and calibration are used.
        inputs: tables from the log's ids to the artifact's.
        dtype: of its records.
        threads: of ONNX Runtime; 0: one per core.
    """

    def __init__(
        self, artifact: Artifact, inputs: Inputs, dtype: RecordDtype, threads: int = 0
    ) -> None:
        self.inputs, self.dtype = inputs, dtype
        self.spec = artifact.manifest.state_spec
        self.artifact_id = artifact.artifact_id
        self._encode = open_graph(artifact.graph(ENCODE), threads)
        self._score = open_graph(artifact.graph(SCORE), threads)
        self._calibration = artifact.calibration()

    def log_odds(self, batch: Batch) -> Floats:
        """Calibrated log odds of each candidate, [B, C]; not finite where the model's are not."""
        state = self._state(self.inputs.of_user(batch))
        logits = run_graph(self._score, {**state, **self.inputs.of_request(batch)})[0]
        values = np.ascontiguousarray(logits, dtype=np.float64)
        return values if self._calibration is None else self._calibration.log_odds(values)

    def _state(self, feed: Feed) -> Feed:
        outputs = run_graph(self._encode, feed)
        names = [tensor.name for tensor in self.spec]
        if self.dtype == "fp32":
            return dict(zip(names, outputs, strict=True))
        users = [
            {name: tensor[row] for name, tensor in zip(names, outputs, strict=True)}
            for row in range(len(outputs[0]))
        ]
        return stack_states([self._stored(user) for user in users], self.spec)

    def _stored(self, state: Feed) -> Feed:
        record = UserRecord("", 0, np.zeros(0, np.int32), state)
        raw = encode_record(record, self.spec, self.artifact_id, self.dtype)
        return dict(decode_record(raw, self.spec, self.artifact_id).state)
