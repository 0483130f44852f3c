"""The engine that runs every artifact: ONNX Runtime and the score graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.contract.schema import PADDING, UNKNOWN
from service.errors import ScoreError
from service.runtime.engines.engine import CPU_DEVICE, EngineSlate, Ids, Limits, Logits

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
PROVIDER_OPTIONS = {CUDA: {"use_tf32": "0"}}
"""TF32, which ONNX Runtime uses by default, keeps 10 bits of a factor: scores would not be the CPU's."""


class OnnxRuntimeEngine:
    """Runs the score graph, on CUDA if this build of ONNX Runtime has it. Shorter slates of a call are padded.

    Attributes:
        provider: ONNX Runtime provider that runs the graph.
    """

    name = "onnxruntime"
    limits = Limits()
    memory = None

    def __init__(
        self,
        graph: bytes,
        recent_length: int,
        num_threads: int,
        providers: Sequence[str] | None = None,
    ) -> None:
        """Open the session.

        Args:
            graph: the score graph.
            recent_length: N, number of latest items that the graph reads.
            num_threads: threads of one run.
            providers: ONNX Runtime's; None: those of `runtime_providers`.

        Raises:
            Exception: ONNX Runtime refuses the graph; its errors have no base class of their own.
        """
        self._session = open_session(graph, num_threads, providers)
        self._inputs = input_names(self._session)
        self._recent_length = recent_length
        self.provider = self._session.get_providers()[0]
        self.device = "cuda:0" if self.provider == CUDA else CPU_DEVICE

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, from one run of the graph.

        Raises:
            Exception: the run failed; one slate's state may be the reason.
        """
        longest = max(len(slate.items) for slate in slates)
        names = slates[0].state
        feed = {name: _stacked([slate.state[name] for slate in slates]) for name in names}
        latest = [right_aligned(slate.recent, self._recent_length) for slate in slates]
        feed["recent"] = _stacked(latest)
        feed["context_fields"] = _stacked([slate.context for slate in slates])
        feed["items"] = _stacked([_padded(slate.items, longest) for slate in slates])
        feed["candidate_fields"] = _stacked([_padded(slate.fields, longest) for slate in slates])
        # Exporters drop the inputs that a graph does not use.
        declared = {name: feed[name] for name in self._inputs}
        (logits,) = self._session.run(["logits"], declared)
        rows = zip(logits, slates, strict=True)
        return [row[: len(slate.items)] for row, slate in rows]

    def close(self) -> None:
        """Do nothing: the session is freed with the engine."""


def runtime_providers() -> list[str]:
    """ONNX Runtime providers to ask for: CUDA if this build has it, then the CPU."""
    available = ort.get_available_providers()
    if CUDA in available:
        # CUDA's libraries may be installed as wheels, where the loader does not search. Without them ONNX Runtime
        # falls back to the CPU and only logs a warning.
        ort.preload_dlls()
    return [name for name in (CUDA, CPU) if name in available]


def open_session(
    graph: bytes, num_threads: int, providers: Sequence[str] | None = None
) -> ort.InferenceSession:
    """Open a session that does not keep the bytes of its graph.

    Args:
        graph: an ONNX model without data of its own files.
        num_threads: threads of one run.
        providers: ONNX Runtime's; None: those of `runtime_providers`.

    Raises:
        Exception: ONNX Runtime refuses the graph; its errors have no base class of their own.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Nothing below fatal: ONNX Runtime does not write in the log's format, and its errors are raised as well.
    options.log_severity_level = 4
    # Spinning threads would take the cores that the event loop and other requests need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    names = runtime_providers() if providers is None else providers
    configured = [(name, PROVIDER_OPTIONS.get(name, {})) for name in names]
    session = ort.InferenceSession(graph, options, providers=configured)
    if session.get_providers() == [CPU]:
        # ONNX Runtime keeps the bytes, to open the session again on the CPU when another provider fails. Here there is
        # none, and they would double the memory of a graph.
        session.disable_fallback()
        session._model_bytes = None
    return session


def input_names(session: ort.InferenceSession) -> list[str]:
    """Names of the inputs that a session's graph declares."""
    return [tensor.name for tensor in session.get_inputs()]


def right_aligned(rows: Ids, length: int) -> Ids:
    """Keep the latest `length` of `rows`; shorter ones are padded in front."""
    aligned = np.full(length, PADDING, np.int64)
    latest = rows[max(len(rows) - length, 0) :]
    aligned[length - len(latest) :] = latest
    return aligned


def _stacked(tensors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack along a new batch axis; a single tensor is not copied."""
    return tensors[0][None] if len(tensors) == 1 else np.stack(tensors)


def _padded(ids: Ids, length: int) -> Ids:
    """Append unknown candidates up to `length`; candidates do not see each other, so this changes no score."""
    if len(ids) == length:
        return ids
    padding = np.full((length - len(ids), *ids.shape[1:]), UNKNOWN, np.int64)
    return np.concatenate([ids, padding])
