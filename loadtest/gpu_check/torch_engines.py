"""The trained model in torch: eager, in a CUDA graph, compiled."""

from collections.abc import Callable

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import REQUEST
from models.base import CtrModel
from models.batch import Context, Slate
from models.blocks import target_attention

WARM_UP = 3


def on_device(model: CtrModel, device: str) -> CtrModel:
    """The model there. On CUDA the attention takes all users at once: it goes user by user for a CPU's caches only."""
    if device == "cuda":
        target_attention.CACHE_FLOATS = 1 << 62
    return model.to(device)


def eager(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    """One scoring, into the buffers' logits."""

    def run() -> None:
        with torch.inference_mode():
            buffers.logits.copy_(_score(model, buffers.inputs))

    return run


def compiled(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    """The same through torch.compile, for this shape alone; the first call compiles."""
    score = torch.compile(_score, dynamic=False)

    def run() -> None:
        with torch.inference_mode():
            buffers.logits.copy_(score(model, buffers.inputs))

    return run


def captured(run: Callable[[], None]) -> Callable[[], None]:
    """What `run` launches, as one CUDA graph that is replayed."""
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _score(model: CtrModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    state = {name: tensor for name, tensor in inputs.items() if name not in REQUEST}
    recent, fields, items = (inputs[name] for name in REQUEST)
    return model.score(state, Context(recent, fields), Slate(items))
