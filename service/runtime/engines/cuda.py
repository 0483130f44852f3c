"""ONNX Runtime on a GPU, with one captured CUDA graph for each bucket of slates: a run is one launch.

A CUDA graph replays fixed shapes at fixed addresses. So each bucket has its own inputs and logits in device memory;
slates are padded to the bucket, with unknown candidates and with copies of the first user, and their logits are cut
again. Candidates do not see each other, so padding changes no logit.

Capture needs every node of the graph on the GPU. Where ONNX Runtime leaves some on the CPU, this engine does not fit,
and `onnxruntime` runs the graph on the GPU without capture.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.contract.artifact import SCORE, Artifact
from models.contract.schema import UNKNOWN, FeatureSchema
from models.contract.state_spec import StateSpec
from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate, Limits, Logits, UnfitError
from service.runtime.engines.onnxruntime import (
    CUDA,
    PROVIDER_OPTIONS,
    right_aligned,
    runtime_providers,
)

USERS = (1, 16)
CANDIDATES = (64, 256, 1024, 4096)
"""Buckets: each number of slates with each number of candidates. What is beyond them ONNX Runtime scores."""
CAPTURE_RUNS = 2
"""Runs of a bucket at load: the first captures the graph, the second replays it."""
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


@dataclass(frozen=True)
class _Bucket:
    """Inputs and logits of one shape, bound once.

    Attributes:
        inputs: name -> values on the device.
        binding: binds them to the graph's inputs, and the logits to its output.
        logits: on the device.
        options: names the bucket's captured graph.
    """

    inputs: dict[str, Any]
    binding: Any
    logits: Any
    options: Any


class CudaEngine:
    """Runs the score graph in buckets. Calls of several threads take turns, since they share addresses."""

    name = "cuda"
    limits = Limits(USERS[-1], CANDIDATES[-1])
    memory = None

    def __init__(
        self, session: ort.InferenceSession, schema: FeatureSchema, spec: StateSpec, device: str
    ) -> None:
        """Allocate the buckets and capture their graphs.

        Args:
            session: of the score graph, with capture switched on for a GPU.
            schema: the graph's inputs.
            spec: tensors of a state.
            device: "cuda", or "cpu" for tests: everything but the capture.

        Raises:
            Exception: ONNX Runtime cannot capture the graph; its errors have no base class of their own.
        """
        self.device = "cuda:0" if device == "cuda" else device
        self._session = session
        self._schema, self._spec, self._on = schema, spec, device
        self._lock = threading.Lock()
        self._buckets = {(u, c): self._bucket(u, c) for u in USERS for c in CANDIDATES}
        for bucket in self._buckets.values():
            for _ in range(CAPTURE_RUNS):
                self._session.run_with_iobinding(bucket.binding, bucket.options)

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, from one run.

        Raises:
            Exception: the run failed; one slate's state may be the reason.
        """
        longest = max(len(slate.items) for slate in slates)
        users = next(number for number in USERS if number >= len(slates))
        candidates = next(number for number in CANDIDATES if number >= longest)
        feed = self._feed(slates, users, candidates)
        with self._lock:
            bucket = self._buckets[users, candidates]
            for name, values in bucket.inputs.items():
                values.update_inplace(np.ascontiguousarray(feed[name]))
            self._session.run_with_iobinding(bucket.binding, bucket.options)
            logits: Logits = bucket.logits.numpy()
        return [logits[row, : len(slate.items)].copy() for row, slate in enumerate(slates)]

    def close(self) -> None:
        """Free the buckets."""
        self._buckets = {}

    def _bucket(self, users: int, candidates: int) -> _Bucket:
        shapes = self._shapes(users, candidates)
        binding = self._session.io_binding()
        inputs = {}
        for node in self._session.get_inputs():
            zeros = np.zeros(shapes[node.name], DTYPES[node.type])
            inputs[node.name] = ort.OrtValue.ortvalue_from_numpy(zeros, self._on, 0)
            binding.bind_ortvalue_input(node.name, inputs[node.name])
        logits = ort.OrtValue.ortvalue_from_numpy(
            np.zeros((users, candidates), np.float32), self._on, 0
        )
        binding.bind_ortvalue_output("logits", logits)
        options = ort.RunOptions()
        if self._on == "cuda":
            number = 1 + USERS.index(users) * len(CANDIDATES) + CANDIDATES.index(candidates)
            options.add_run_config_entry("gpu_graph_id", str(number))
        return _Bucket(inputs, binding, logits, options)

    def _shapes(self, users: int, candidates: int) -> dict[str, tuple[int, ...]]:
        schema = self._schema
        return {
            **{tensor.name: (users, *tensor.shape) for tensor in self._spec},
            "recent": (users, schema.recent_length),
            "context_fields": (users, len(schema.context_fields)),
            "items": (users, candidates),
            "candidate_fields": (users, candidates, len(schema.candidate_fields)),
        }

    def _feed(
        self, slates: Sequence[EngineSlate], users: int, candidates: int
    ) -> dict[str, NDArray[Any]]:
        """Inputs of a bucket, padded with the first slate's user and unknown candidates."""
        padded = [*slates, *[slates[0]] * (users - len(slates))]
        length = self._schema.recent_length
        feed = {
            tensor.name: np.stack([slate.state[tensor.name] for slate in padded])
            for tensor in self._spec
        }
        feed["recent"] = np.stack([right_aligned(slate.recent, length) for slate in padded])
        feed["context_fields"] = np.stack([slate.context for slate in padded])
        shape = users, candidates
        feed["items"] = np.full(shape, UNKNOWN, np.int64)
        feed["candidate_fields"] = np.full((*shape, slates[0].fields.shape[1]), UNKNOWN, np.int64)
        for row, slate in enumerate(slates):
            feed["items"][row, : len(slate.items)] = slate.items
            feed["candidate_fields"][row, : len(slate.items)] = slate.fields
        return feed


def open_engine(artifact: Artifact, num_threads: int) -> CudaEngine:
    """Open the engine for one artifact.

    Args:
        artifact: verified.
        num_threads: not used: every node runs on the GPU.

    Raises:
        UnfitError: this ONNX Runtime has no CUDA, or cannot use it; or some nodes of the graph run on the CPU.
        ArtifactError: the graph was changed or removed.
    """
    if CUDA not in runtime_providers():
        detail = f"onnxruntime {ort.__version__} has no {CUDA}: install the extra gpu"
        raise UnfitError("not installed", detail)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    settings = {**PROVIDER_OPTIONS[CUDA], "enable_cuda_graph": "1"}
    graph, manifest = artifact.graph(SCORE), artifact.manifest
    try:
        session = ort.InferenceSession(graph, options, providers=[(CUDA, settings)])
        if CUDA not in session.get_providers():
            raise UnfitError("no device", "CUDA: ONNX Runtime cannot use a device")
        return CudaEngine(session, manifest.schema, manifest.state_spec, "cuda")
    except UnfitError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise UnfitError("shape", f"the graph cannot be captured: {error}") from error
