"""Sessions of the exported graphs on the CPU, and what they are fed with."""

from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from models.batch import User

Feed = dict[str, NDArray[Any]]


def open_graph(raw: bytes, threads: int = 1) -> ort.InferenceSession:
    """Open a session of one graph on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def run_graph(session: ort.InferenceSession, feed: Feed) -> list[NDArray[Any]]:
    """Run a graph with the inputs that its export kept; the outputs in its order, int32 where a state holds it."""
    outputs: list[NDArray[Any]] = session.run(None, kept_inputs(session, feed))
    return outputs


def kept_inputs(session: ort.InferenceSession, feed: Feed) -> Feed:
    """The part of `feed` that the graph reads: the exporter drops inputs that change no output."""
    names = {node.name for node in session.get_inputs()}
    return {name: values for name, values in feed.items() if name in names}


def user_feed(user: User) -> Feed:
    """Inputs of the encode graph."""
    return {
        "history": user.history.numpy(),
        "ages": user.ages.numpy(),
        "user_fields": user.fields.numpy(),
    }
