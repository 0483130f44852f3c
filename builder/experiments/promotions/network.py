"""The network around the blocks, the same for all rows: embeddings, inputs of the head, tower, linear path."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from builder.experiments.promotions.blocks.base import Block, Candidates, History, Target
from builder.experiments.promotions.embeddings import DIM, Items, Placement, take_rows
from builder.experiments.promotions.task import Slates

TOWER = (128, 64)
SLOPE = 0.1


class Dropout(nn.Module):
    """Dropout whose rate is a number on the device: one captured graph serves every rate."""

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.zeros(()), persistent=False)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """x, with random zeros in training."""
        if not self.training:
            return x
        return x * (torch.rand_like(x) >= self.rate) / (1 - self.rate)


class Network(nn.Module):
    """logit = b + b_item + w · asinh(masses) + tower(ê_t ⊕ placement ⊕ asinh(masses) ⊕ pooled ⊕ ê_t ⊙ pooled ⊕ log n).

    Args:
        blocks: readers of the history; empty: a model without history.
        items: embeddings of the catalogue.
        placement: features of candidates.
        log_odds: start of b: log odds of the base rate.
    """

    def __init__(
        self, blocks: list[Block], items: Items, placement: Placement, log_odds: float
    ) -> None:
        super().__init__()
        self.items, self.placement, self.blocks = items, placement, nn.ModuleList(blocks)
        masses = sum(block.masses for block in blocks)
        pooled = sum(block.heads for block in blocks) * DIM
        width = DIM + placement.dim + masses + 2 * pooled + bool(blocks)
        self.first, self.second = nn.Linear(width, TOWER[0]), nn.Linear(TOWER[0], TOWER[1])
        self.last, self.wide = nn.Linear(TOWER[1], 1), nn.Linear(max(masses, 1), 1, bias=False)
        nn.init.zeros_(self.wide.weight)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.fill_(log_odds)
        self.dropout = Dropout()

    def forward(self, slates: Slates) -> Float[Tensor, "B C"]:
        """Log odds of each candidate being bought, in the real task."""
        return self.train_forward(slates)[0]

    def train_forward(
        self, slates: Slates
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, ""] | None]:
        """Log odds, and the blocks' penalties (in training only)."""
        table = self.items.table()
        target = take_rows(table, slates.items)
        placed, bias = self.placement(slates.items, slates.display, slates.mailer)
        candidates = Candidates(slates.items, target)
        parts, masses, penalty = [target, placed], [], None
        if len(self.blocks):
            history = History(slates.rows, slates.ages, take_rows(table, slates.index), table)
            parts.append(self._length(slates.rows, target))
        for block in self.blocks:
            assert isinstance(block, Block)  # noqa: S101 - ModuleList forgets its type
            state = block.encode(history)
            read = block.read(state, candidates)
            masses.append(read.mass.asinh())
            if block.heads:
                repeated = target.repeat(1, 1, block.heads)
                parts += [read.pooled, read.pooled * repeated]
            if self.training:
                goal = Target(slates.label, slates.weight, slates.offset)
                penalty = _plus(penalty, block.penalty(history, state, candidates, goal))
        x = torch.cat(parts + masses, -1)
        x = self.dropout(F.leaky_relu(self.first(x), SLOPE))
        x = self.dropout(F.leaky_relu(self.second(x), SLOPE))
        logit = self.last(x).squeeze(-1) + bias
        if masses:
            logit = logit + self.wide(torch.cat(masses, -1)).squeeze(-1)
        return logit, penalty

    def loss(self, slates: Slates) -> Float[Tensor, ""]:
        """Weighted log loss of a visit's sampled candidates, whose odds sampling moved; and the penalties."""
        logit, penalty = self.train_forward(slates)
        loss = F.binary_cross_entropy_with_logits(
            logit + slates.offset, slates.label, slates.weight, reduction="sum"
        ) / len(logit)
        return loss if penalty is None else loss + penalty

    @staticmethod
    def _length(rows: Int[Tensor, "B L"], target: Tensor) -> Float[Tensor, "B C 1"]:
        length = torch.log1p((rows > 0).sum(1).to(target.dtype)) / 8
        return length[:, None, None].expand(-1, target.shape[1], -1)


def _plus(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
