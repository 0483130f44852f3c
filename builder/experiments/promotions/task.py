"""The prepared task on a device, where batches are made: no data is copied from the host during training.

Axis letters: B visits, C candidates of each, L history length, D width, H heads, R slots.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from builder.experiments.promotions.prepared import Prepared

POSITIVES, NEGATIVES = 12, 48
"""Candidates of a training visit: at most so many that were bought, and so many drawn from the rest of the pool."""
WITH_POSITIVES = 0.75
"""Share of a batch whose visits bought something promoted; its weight is what the log's share is."""
MAX_POSITIVES = 64
AGES = 28
"""Buckets of age, two to the octave above an hour; 0 is padding."""
SPREAD = 512
"""Rows of zeros behind the catalogue for padding, so that its gradients are not all added to a single row."""


@dataclass(frozen=True)
class Slates:
    """Visits with histories and candidates.

    Attributes:
        rows: catalogue rows of the latest L events, the newest last; 0: padding.
        index: the same rows of the embedding table, with padding spread over its rows of zeros.
        ages: bucket of each event's age; 0: padding.
        items: catalogue rows of candidates.
        display: placement codes of candidates.
        mailer: placement codes of candidates.
        label: 1 where the candidate was bought.
        weight: of each candidate in the loss; 0 where there is none.
        offset: change of the log odds by sampling: log(sampling rate of positives / that of negatives).
    """

    rows: Int[Tensor, "B L"]
    index: Int[Tensor, "B L"]
    ages: Int[Tensor, "B L"]
    items: Int[Tensor, "B C"]
    display: Int[Tensor, "B C"]
    mailer: Int[Tensor, "B C"]
    label: Float[Tensor, "B C"]
    weight: Float[Tensor, "B C"]
    offset: Float[Tensor, "B 1"]


class Task:
    """All arrays of a `Prepared` as tensors on `device`.

    Args:
        prepared: the task.
        device: where batches are made.
        length: L.
    """

    def __init__(self, prepared: Prepared, device: torch.device, length: int) -> None:
        self.device, self.length = device, length

        def put(values: np.ndarray, kind: torch.dtype = torch.int64) -> Tensor:
            return torch.from_numpy(np.array(values)).to(device).to(kind)

        self.item_fields = put(prepared.item_fields)
        self.event_row, self.event_hour = put(prepared.event_row), put(prepared.event_hour)
        self.pool_row = put(prepared.pool_row, torch.int32)
        self.pool_display = put(prepared.pool_display, torch.uint8)
        self.pool_mailer = put(prepared.pool_mailer, torch.uint8)
        self.hour, self.start, self.end = (
            put(values) for values in (prepared.hour, prepared.start, prepared.end)
        )
        first = prepared.pool_first
        self.pool_start = put(first[prepared.pool])
        self.pool_size = put(first[prepared.pool + 1] - first[prepared.pool])
        self.positive_first = put(prepared.positive_first)
        self.positive_place = put(np.append(prepared.positive_place, 0).astype(np.int32))
        bought = np.diff(prepared.positive_first)
        self.parts = {name: put(prepared.part(name)) for name in ("train", "validation", "test")}
        train = prepared.part("train")
        self.strata = put(train[bought[train] > 0]), put(train[bought[train] == 0])
        self.share = len(self.strata[0]) / len(train)
        hours = torch.arange(1 << 14, device=device)
        self.age_of_hours = (1 + 2 * torch.log2(1.0 + hours)).long().clamp(max=AGES - 1)
        self.place = torch.arange(MAX_POSITIVES, device=device)
        self.back = torch.arange(length, device=device) - length
        self.padding = len(prepared.item_fields) + torch.arange(length, device=device) % SPREAD

    def history(
        self, visits: Int[Tensor, "B"]
    ) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"], Int[Tensor, "B L"]]:
        """Rows, rows of the embedding table, and ages of the latest L events before each visit."""
        at = self.end[visits][:, None] + self.back
        is_real = at >= self.start[visits][:, None]
        at = at.clamp(min=0)
        rows = self.event_row[at] * is_real
        hours = (self.hour[visits][:, None] - self.event_hour[at]).clamp(min=0)
        ages = self.age_of_hours[hours] * is_real
        return rows, torch.where(is_real, rows, self.padding), ages

    def draw_visits(self, batch: int) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """Random visits of the training part, and their weights in the loss."""
        rich = round(WITH_POSITIVES * batch)
        counts = rich, batch - rich
        visits, weights = [], []
        for stratum, count, share in zip(
            self.strata, counts, (self.share, 1 - self.share), strict=True
        ):
            at = (torch.rand(count, device=self.device) * len(stratum)).long()
            visits.append(stratum[at.clamp(max=max(len(stratum) - 1, 0))])
            weights.append(torch.full((count,), share * batch / count, device=self.device))
        return torch.cat(visits), torch.cat(weights)

    def sample(
        self,
        visits: Int[Tensor, "B"],
        weight: Float[Tensor, "B"],
        draws: Float[Tensor, "B draws"],
        positives: int = POSITIVES,
    ) -> Slates:
        """Up to `positives` bought candidates, and K uniform draws (with replacement) from the others.

        Args:
            visits: visits to draw candidates for.
            weight: of each visit.
            draws: uniform in [0, 1): one for the positives, K for the negatives.
            positives: of more, a random run of so many is taken, with the weight of all.
        """
        first = self.positive_first[visits]
        bought = self.positive_first[visits + 1] - first  # (B,)
        every = first[:, None] + self.place
        is_there = self.place < bought[:, None]
        every = self.positive_place[every.clamp(max=len(self.positive_place) - 1)]  # (B, MAX)
        begin = (draws[:, 0] * bought).long() * (bought > positives)
        turn = (begin[:, None] + self.place[:positives]) % bought.clamp(min=1)[:, None]
        taken = every.gather(1, turn)
        others = self.pool_size[visits] - bought
        rank = (draws[:, 1:] * others[:, None]).long()
        rank = torch.minimum(rank, (others - 1)[:, None])
        # Places of others, in order: rank plus the positives before it.
        before = (every - self.place).masked_fill(~is_there, 1 << 30)
        missed = rank + (before[:, None] <= rank[..., None]).sum(-1)
        places = torch.cat([taken, missed], 1)
        is_taken = self.place[:positives] < bought[:, None]
        heavy = is_taken * (bought / bought.clamp(1, positives))[:, None]
        K = draws.shape[1] - 1
        label = torch.cat([torch.ones_like(heavy), torch.zeros_like(draws[:, 1:])], 1)
        full = torch.cat([heavy, torch.ones_like(draws[:, 1:])], 1) * weight[:, None]
        offset = (others / K).log()[:, None].float()
        return self._slates(visits, places, label, full.float(), offset)

    def whole(self, visits: Int[Tensor, "B"], size: int) -> tuple[Slates, Bool[Tensor, "B C"]]:
        """Whole pools, filled up to `size` candidates; and which candidates are real."""
        places = torch.arange(size, device=self.device).expand(len(visits), -1)
        is_real = places < self.pool_size[visits][:, None]
        first = self.positive_first[visits]
        there = self.place < (self.positive_first[visits + 1] - first)[:, None]
        every = (first[:, None] + self.place).clamp(max=len(self.positive_place) - 1)
        bought = self.positive_place[every].masked_fill(~there, size).clamp(max=size)
        label = torch.zeros(len(visits), size + 1, device=self.device).scatter_(1, bought, 1.0)
        places = places * is_real
        none = torch.zeros(len(visits), 1, device=self.device)
        return self._slates(visits, places, label[:, :-1], is_real.float(), none), is_real

    def _slates(
        self, visits: Tensor, places: Tensor, label: Tensor, weight: Tensor, offset: Tensor
    ) -> Slates:
        at = self.pool_start[visits][:, None] + places
        rows, index, ages = self.history(visits)
        return Slates(
            rows,
            index,
            ages,
            items=self.pool_row[at].long(),
            display=self.pool_display[at].long(),
            mailer=self.pool_mailer[at].long(),
            label=label,
            weight=weight,
            offset=offset,
        )


def base_log_odds(prepared: Prepared) -> float:
    """Log odds of a candidate of the training part being bought: where the output's bias starts."""
    train = prepared.part("train")
    bought = np.diff(prepared.positive_first)[train].sum()
    shown = np.diff(prepared.pool_first)[prepared.pool[train]].sum()
    return math.log(bought / (shown - bought))
