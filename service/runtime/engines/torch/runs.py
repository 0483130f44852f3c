"""Launches a bucket: kernels in a captured graph on a GPU, the same kernels or plain torch elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from service.runtime.engines.torch.buffers import TILE, USERS, Buffers
from service.runtime.engines.torch.weights import TINY, Sizes, Weights, width

KEYS = 32
"""Slots of a tile."""
PROGRAMS = 512
"""Programs of the attention that fill a large GPU (132 processors) some times over; splits are chosen to reach it."""
MAX_SPLITS = 8
HEAD_TILE, SMALL_HEAD_TILE = 32, 16
"""Candidates of a program of the head: fewer for small slates, so that more processors take part."""
LARGE_TILES = 64
"""Tiles from which the head takes `HEAD_TILE`."""
SLOTS_OPTIONS = {"num_warps": 4, "num_stages": 2}
HEAD_OPTIONS = {"num_warps": 8, "num_stages": 2}
"""Compiled for sm_90 at the default's sizes, no kernel spills: 180, 228 and 188 registers (slots, head of 32, of 16),
90 kB of shared memory at most. A head of 64 with three stages would need more than there is."""
WARM_UP_RUNS = 2
PRECISION = "tf32x3"
"""Three TF32 products in place of an fp32 one: probabilities differ by less than 1e-6."""


@dataclass(frozen=True)
class Scratch:
    """Sums of the kernels, shared by all buckets, since only one runs at a time.

    Attributes:
        shared: first layer of each user, [USERS, W1].
        filled: filled slots of each user, [USERS].
        ones: 1, the count of each of the latest items.
        sums: [splits · candidates, G, D].
        masses: [splits · candidates, G].
    """

    shared: Tensor
    filled: Tensor
    ones: Tensor
    sums: Tensor
    masses: Tensor

    @classmethod
    def of(cls, buckets: Sequence[int], weights: Weights, sizes: Sizes, device: str) -> "Scratch":
        """Allocate for the largest of some buckets; for none, if no kernel will run."""
        largest = max((tiles * splits_of(tiles, sizes) for tiles in buckets), default=0)
        lines = largest * TILE * sizes.pooled
        # Not a number: a sum that a kernel reads and none has written must show.
        return cls(
            torch.full((USERS, weights.bias.shape[0]), torch.nan, device=device),
            torch.zeros(USERS, dtype=torch.int32, device=device),
            torch.ones(1, device=device),
            torch.full((lines, weights.vectors.shape[1]), torch.nan, device=device),
            torch.full((lines,), torch.nan, device=device),
        )


def splits_of(tiles: int, sizes: Sizes) -> int:
    """Parts into which the slots are split, so that few tiles still fill the device."""
    splits = 1
    while splits < MAX_SPLITS and tiles * sizes.pooled * splits * 2 <= PROGRAMS:
        splits *= 2
    return splits


class Bucket:
    """One bucket: its buffers, and a call that scores what they hold.

    Args:
        tiles: size.
        scratch: sums of the kernels.
        weights: of the plan.
        sizes: of the model.
        device: "cuda" or "cpu".
    """

    def __init__(
        self, tiles: int, scratch: Scratch, weights: Weights, sizes: Sizes, device: str
    ) -> None:
        self.buffers = Buffers(tiles, sizes, device)
        self.launch: Callable[[], None] = partial(launch, self.buffers, scratch, weights, sizes)

    def capture(self, stream: torch.cuda.Stream) -> None:
        """Replace the launch by the replay of a graph that holds it. The first launches compile the kernels."""
        for _ in range(WARM_UP_RUNS):
            self.launch()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Of this thread only: meanwhile other threads score with the model that is being replaced.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.launch()
        self.launch = graph.replay


def launch(buffers: Buffers, scratch: Scratch, weights: Weights, sizes: Sizes) -> None:
    """Launch the three kernels on the current stream."""
    splits = splits_of(buffers.tiles, sizes)
    _launch_user(buffers, scratch, weights, sizes)
    _launch_slots(buffers, scratch, weights, sizes, splits)
    _launch_head(buffers, scratch, weights, sizes, splits)


def _common(weights: Weights, sizes: Sizes) -> dict[str, int | str]:
    """Sizes that the attention and the head share."""
    d = weights.vectors.shape[1]
    return {"H": sizes.heads, "G": sizes.pooled, "D": d, "BC": TILE, "PRECISION": PRECISION}


def _launch_user(buffers: Buffers, scratch: Scratch, weights: Weights, sizes: Sizes) -> None:
    from service.runtime.engines.torch import kernels

    kernels.user_kernel[(USERS,)](
        buffers.states,
        buffers.context,
        weights.profile,
        weights.bias,
        weights.context_terms,
        weights.context_starts,
        scratch.shared,
        scratch.filled,
        P=sizes.profile,
        PP=width(sizes.profile),
        R=sizes.slots,
        RP=width(sizes.slots),
        CONTEXT=sizes.context,
        W1=weights.bias.shape[0],
    )


def _launch_slots(
    buffers: Buffers, scratch: Scratch, weights: Weights, sizes: Sizes, splits: int
) -> None:
    from service.runtime.engines.torch import kernels

    kernels.slots_kernel[(buffers.tiles, sizes.pooled, splits)](
        buffers.states,
        buffers.users,
        buffers.items,
        buffers.recent,
        scratch.filled,
        scratch.ones,
        weights.vectors,
        weights.tau,
        weights.tau_sum,
        scratch.sums,
        scratch.masses,
        P=sizes.profile,
        R=sizes.slots,
        N=sizes.recent,
        BK=KEYS,
        TINY=TINY,
        **_common(weights, sizes),
        **SLOTS_OPTIONS,
    )


def _launch_head(
    buffers: Buffers, scratch: Scratch, weights: Weights, sizes: Sizes, splits: int
) -> None:
    from service.runtime.engines.torch import kernels

    head_tile = HEAD_TILE if buffers.tiles >= LARGE_TILES else SMALL_HEAD_TILE
    kernels.head_kernel[(buffers.tiles * (TILE // head_tile),)](
        buffers.users,
        buffers.items,
        buffers.fields,
        scratch.shared,
        weights.vectors,
        weights.item_terms,
        weights.item_bias,
        weights.field_terms,
        weights.field_starts,
        weights.pooled,
        weights.products,
        weights.masses,
        weights.wide,
        weights.hidden,
        weights.hidden_bias,
        weights.out,
        weights.out_bias,
        scratch.sums,
        scratch.masses,
        buffers.logits,
        W1=weights.bias.shape[0],
        W2=weights.out.shape[0],
        FIELDS=sizes.fields,
        SPLITS=splits,
        BH=head_tile,
        SLOPE=sizes.slope,
        **_common(weights, sizes),
        **HEAD_OPTIONS,
    )
