"""The artifact's score graph in ONNX Runtime: on the CPU, and on CUDA in three ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import Feed
from loadtest.gpu_check.report import NotRunError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""Session option: remember which provider has which nodes."""


def open_cpu(path: Path, threads: int) -> ort.InferenceSession:
    """A session on the CPU; 0 threads: one for each core."""
    options = _options()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=[CPU])


def open_cuda(
    path: Path, *, tf32: bool = False, graph: bool = False, fixed: dict[str, int] | None = None
) -> ort.InferenceSession:
    """A session on CUDA, on torch's current stream, so that torch's events see its work.

    Args:
        path: of the graph.
        tf32: may matrix products round their inputs to 10 bits?
        graph: capture the first run as a CUDA graph and replay it in the others.
        fixed: sizes of axes that are known, which lets ONNX Runtime fold what depends on them.

    Raises:
        NotRunError: there is no device, or this ONNX Runtime has no CUDA, or it does not load here.
    """
    if CUDA not in ort.get_available_providers():
        raise NotRunError(f"onnxruntime {ort.__version__} has no CUDA provider")
    if not torch.cuda.is_available():
        raise NotRunError("no CUDA device")
    options = _options()
    options.add_session_config_entry(ASSIGNMENT, "1")
    for name, size in (fixed or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    about = {
        "device_id": "0",
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(graph)),
    }
    if (
        stream := torch.cuda.current_stream().cuda_stream
    ):  # 0: the default one, which no graph can capture
        about["user_compute_stream"] = str(stream)
    session = ort.InferenceSession(str(path), options, providers=[(CUDA, about), CPU])
    if session.get_providers()[0] != CUDA:
        raise NotRunError("ONNX Runtime fell back to the CPU: see its message above")
    return session


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    return options


def nodes_by_provider(session: ort.InferenceSession) -> dict[str, list[str]]:
    """Provider -> operators of the optimised graph that it runs."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return found


def run_plain(session: ort.InferenceSession, feed: Feed) -> NDArray[Any]:
    """One run from and to the host's memory, as the service does it."""
    names = {node.name for node in session.get_inputs()}
    (logits,) = session.run(["logits"], {n: v for n, v in feed.items() if n in names})
    found: NDArray[Any] = logits
    return found


def bound(
    session: ort.InferenceSession, buffers: Buffers, *, wait: bool = True
) -> Callable[[], None]:
    """A run on fixed device buffers, inputs and logits.

    Args:
        session: from `open_cuda`.
        buffers: read and written in place.
        wait: for the device at the end of each run; without it runs queue up behind each other.
    """  # fmt: skip
    binding = session.io_binding()
    names = {node.name for node in session.get_inputs()}
    for name, tensor in buffers.inputs.items():
        if name in names:
            element = np.dtype(str(tensor.dtype).removeprefix("torch.")).type
            binding.bind_input(name, "cuda", 0, element, tuple(tensor.shape), tensor.data_ptr())
    logits = buffers.logits
    binding.bind_output("logits", "cuda", 0, np.float32, tuple(logits.shape), logits.data_ptr())
    options = ort.RunOptions()
    if not wait:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def run() -> None:
        session.run_with_iobinding(binding, options)

    return run
