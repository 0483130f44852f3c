"""The interface that all compared blocks share: inputs and outputs.

A block is split as a served model is: `encode` turns a history into a state, `read` scores candidates against it. It
returns *masses* (how much of the history matched) and *pooled* vectors (what matched). `network.py` treats both alike
for every block: asinh masses go to the logit and to the tower, pooled and ê_t ⊙ pooled to the tower.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from builder.experiments.promotions.embeddings import take_rows
from builder.experiments.promotions.task import AGES

HEADS = 4
State = dict[str, Tensor]


@dataclass(frozen=True)
class History:
    """Events of visits: catalogue rows (0: padding), age buckets, ê (zero at padding); and ê of the whole catalogue."""

    rows: Int[Tensor, "B L"]
    ages: Int[Tensor, "B L"]
    events: Float[Tensor, "B L D"]
    table: Float[Tensor, "V D"]

    def anchors(self, rows: Int[Tensor, "R"]) -> Float[Tensor, "R D"]:
        """ê of catalogue rows."""
        return take_rows(self.table, rows)


@dataclass(frozen=True)
class Candidates:
    """Catalogue rows and ê of candidates."""

    rows: Int[Tensor, "B C"]
    vectors: Float[Tensor, "B C D"]


@dataclass(frozen=True)
class Read:
    """Output of a block for each candidate; each head's pooled vector is D wide."""

    mass: Float[Tensor, "B C M"]
    pooled: Float[Tensor, "B C W"]


class Block(nn.Module):
    """One way to read a history.

    Attributes:
        masses: M.
        heads: pooled vectors of a candidate: W = heads · D.
    """

    masses: int = HEADS
    heads: int = HEADS

    def encode(self, history: History) -> State:
        """State of a history, without candidates."""
        raise NotImplementedError

    def read(self, state: State, candidates: Candidates) -> Read:
        """Masses and pooled vectors of candidates."""
        raise NotImplementedError

    def penalty(
        self, history: History, state: State, candidates: Candidates, target: "Target"
    ) -> Float[Tensor, ""] | None:
        """Term that training adds to the loss; None adds nothing."""
        return None

    def state_bytes(self, length: int) -> int:
        """Bytes of the state in a cache at a history of `length` events: float16 numbers, 4-byte rows and ages."""
        return 8 * length


@dataclass(frozen=True)
class Target:
    """Targets that a penalty may fit: labels, weights and offsets as in `Slates`."""

    label: Float[Tensor, "B C"]
    weight: Float[Tensor, "B C"]
    offset: Float[Tensor, "B 1"]


class AgeBias(nn.Module):
    """g_h(l) = exp(b_h[age of l]): how much less an old event counts, by head; 0 at padding. b starts at 0."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(AGES, heads))

    def log(self, ages: Int[Tensor, "B L"]) -> Float[Tensor, "B L H"]:
        """b_h, and −10⁴ at padding, whose exponential is 0."""
        hot = (ages[..., None] == torch.arange(AGES, device=ages.device)).to(self.bias.dtype)
        return hot @ self.bias.clamp(-8, 3) - 1e4 * (ages == 0)[..., None]

    def forward(self, ages: Int[Tensor, "B L"]) -> Float[Tensor, "B L H"]:
        """exp(b_h); 0 at padding."""
        return self.log(ages).exp()
