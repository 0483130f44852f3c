"""The trained model in torch: eager, in a CUDA graph, compiled."""

from collections.abc import Callable

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import REQUEST
from models.base import CtrModel
from models.batch import Context, Slate

WARM_UP_CALLS = 3


def eager(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    """A call that scores once, into the buffers' logits.

    Args:
        model: on the buffers' device.
        buffers: inputs and logits.
    """

    def run() -> None:
        with torch.inference_mode():
            buffers.logits.copy_(_score(model, buffers.inputs))

    return run


def compiled(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    """Like `eager`, through torch.compile for this shape alone. The first call compiles."""
    score = torch.compile(_score, dynamic=False)

    def run() -> None:
        with torch.inference_mode():
            buffers.logits.copy_(score(model, buffers.inputs))

    return run


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """Capture the kernels that `run` launches as one CUDA graph; return the call that replays it."""
    torch.cuda.synchronize()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_CALLS):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _score(model: CtrModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    state = {name: tensor for name, tensor in inputs.items() if name not in REQUEST}
    context, items = Context(inputs["recent"], inputs["context_fields"]), inputs["items"]
    given = inputs.get("candidate_fields")
    return model.score(state, context, Slate.of(items) if given is None else Slate(items, given))
