"""The artifact's score graph in ONNX Runtime: on the CPU, and on CUDA in three ways."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import Feed
from loadtest.gpu_check.results import NotRunError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""Session option: keep which provider runs which nodes."""


def open_cpu(graph: bytes, threads: int) -> ort.InferenceSession:
    """Open a session on the CPU.

    Args:
        graph: the graph, as `Artifact.graph` reads it.
        threads: number of threads; 0: one for each core.
    """
    options = _session_options()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(graph, options, providers=[CPU])


def open_cuda(
    graph: bytes,
    *,
    is_tf32: bool = False,
    is_graph: bool = False,
    sizes: dict[str, int] | None = None,
) -> ort.InferenceSession:
    """Open a session on CUDA, on torch's current stream, so that torch's events cover its work.

    Args:
        graph: the graph, as `Artifact.graph` reads it.
        is_tf32: whether matrix products may round their inputs to 10 bits of mantissa.
        is_graph: capture the first run as a CUDA graph and replay it in later runs; see `check_capture` first.
        sizes: sizes of axes that are known, which lets ONNX Runtime fold what depends on them.

    Raises:
        NotRunError: there is no device, or this ONNX Runtime has no CUDA provider or cannot load it.
    """
    if CUDA not in ort.get_available_providers():
        raise NotRunError(f"onnxruntime {ort.__version__} has no CUDA provider")
    if not torch.cuda.is_available():
        raise NotRunError("no CUDA device")
    options = _session_options()
    options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    provider_options = {
        "device_id": "0",
        "use_tf32": str(int(is_tf32)),
        "enable_cuda_graph": str(int(is_graph)),
    }
    # 0 is the default stream, which no graph can capture.
    if stream := torch.cuda.current_stream().cuda_stream:
        provider_options["user_compute_stream"] = str(stream)
    providers = [(CUDA, provider_options), CPU]
    session = ort.InferenceSession(graph, options, providers=providers)
    if session.get_providers()[0] != CUDA:
        raise NotRunError("ONNX Runtime could not load CUDA and fell back to the CPU; see its log")
    return session


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    options.inter_op_num_threads = 1
    return options


def nodes_by_provider(session: ort.InferenceSession) -> dict[str, list[str]]:
    """Provider -> operators of the optimised graph that it runs."""
    operators: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        operators.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return operators


def describe_nodes(operators: dict[str, list[str]]) -> str:
    """One sentence on which provider runs how many nodes, with the operators that are not on CUDA."""
    parts = []
    for provider, names in operators.items():
        counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))
        shown = "" if provider == CUDA else f" ({counts})"
        parts.append(f"{provider} runs {len(names)} nodes{shown}")
    return "; ".join(parts)


def check_capture(operators: dict[str, list[str]]) -> None:
    """Check that ONNX Runtime can capture a CUDA graph: every node must run on CUDA.

    Args:
        operators: from `nodes_by_provider`, of a session without capture.

    Raises:
        NotRunError: nodes run on another provider.
    """
    if set(operators) - {CUDA}:
        raise NotRunError(
            "ONNX Runtime captures a CUDA graph only if all nodes run on CUDA, but "
            + describe_nodes(operators)
        )


def run_plain(session: ort.InferenceSession, feed: Feed) -> NDArray[np.float32]:
    """One run from host memory to host memory, as the service does it; the logits, [B, C]."""
    names = {node.name for node in session.get_inputs()}
    used = {name: values for name, values in feed.items() if name in names}
    logits: NDArray[np.float32] = session.run(["logits"], used)[0]
    return logits


def bound(
    session: ort.InferenceSession, buffers: Buffers, *, is_waiting: bool = True
) -> Callable[[], None]:
    """A call that runs on fixed device buffers: inputs and logits.

    Args:
        session: from `open_cuda`.
        buffers: read and written in place.
        is_waiting: wait for the device at the end of each run. If false, runs queue up behind each other.
    """
    binding = session.io_binding()
    names = {node.name for node in session.get_inputs()}
    for name, tensor in buffers.inputs.items():
        if name in names:
            element: Any = np.dtype(str(tensor.dtype).removeprefix("torch.")).type
            binding.bind_input(name, "cuda", 0, element, tuple(tensor.shape), tensor.data_ptr())
    logits = buffers.logits
    binding.bind_output("logits", "cuda", 0, np.float32, tuple(logits.shape), logits.data_ptr())
    options = ort.RunOptions()
    if not is_waiting:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def run() -> None:
        session.run_with_iobinding(binding, options)

    return run
