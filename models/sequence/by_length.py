"""On a CPU, users of like history lengths are computed together: padding costs as much as events do.

Users are sorted by length and split into parts; each part's histories are cut to the longest of the part. So a batch at
L = 2,000 costs as much as its events, and a part's activations stay in the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.batch import User
from models.blocks.reading import Candidates, Events, Read
from models.blocks.unit_items import LookUp
from models.contract.schema import PADDING
from models.readers.base import TrainRead

PART = 256
"""Candidates of the users of a part together, roughly. At L = 2,000, 512 is a third slower with 16 candidates each."""


@dataclass(frozen=True)
class Part:
    """Some users of a batch.

    Attributes:
        users: their places in the batch; None: all of them.
        rows: their histories, without the padding that all have in front.
        ages: of the same events.
    """

    users: Int[Tensor, "B"] | None
    rows: Int[Tensor, "B L"]
    ages: Int[Tensor, "B L"]

    def of(self, candidates: Candidates) -> Candidates:
        """These users' candidates."""
        if self.users is None:
            return candidates
        return Candidates(candidates.rows[self.users], candidates.vectors[self.users])


def split_by_length(user: User, candidates: int) -> list[Part]:
    """Parts of users of like lengths; on a GPU, where a split would wait for the host, one part.

    Args:
        user: all users.
        candidates: number of candidates of each.
    """
    if user.history.is_cuda or len(user.history) == 1:
        return [Part(None, user.history, user.ages)]
    length = (user.history != PADDING).sum(1)
    parts = []
    for users in torch.split(length.argsort(), max(1, PART // candidates)):
        longest = max(1, int(length[users[-1]]))
        parts.append(Part(users, user.history[users, -longest:], user.ages[users, -longest:]))
    return parts


class JointLookUp:
    """Vectors of all parts' events by one look-up: each one has a gradient as large as the catalogue.

    Args:
        parts: all parts.
        look_up: vectors of catalogue rows.
    """

    def __init__(self, parts: Sequence[Part], look_up: LookUp) -> None:
        self.parts, self._look_up = parts, look_up
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def events(self) -> list[Events]:
        """Each part's events."""
        return [_PartEvents(self, place) for place in range(len(self.parts))]

    @cached_property
    def vectors(self) -> list[Float[Tensor, "B L D"]]:
        """Vectors of each part's events."""
        rows = [part.rows for part in self.parts]
        flat = self._look_up(torch.cat([row.flatten() for row in rows]))
        pieces = torch.split(flat, [row.numel() for row in rows])
        return [piece.view(*row.shape, -1) for piece, row in zip(pieces, rows, strict=True)]

    def __call__(self, rows: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch D"]:
        """Vectors of other rows, once for all parts that ask for the same tensor."""
        if id(rows) not in self._known:
            self._known[id(rows)] = rows, self._look_up(rows)
        return self._known[id(rows)][1]


class _PartEvents(Events):
    def __init__(self, joint: JointLookUp, place: int) -> None:
        part = joint.parts[place]
        super().__init__(part.rows, part.ages, joint)
        self._joint, self._place = joint, place

    @property
    def vectors(self) -> Float[Tensor, "B L D"]:
        return self._joint.vectors[self._place]


def join(parts: Sequence[Part], reads: Sequence[TrainRead]) -> TrainRead:
    """What one reader read in each part, in the order of the batch."""
    if len(parts) == 1 and parts[0].users is None:
        return reads[0]
    users = torch.cat([part.users for part in parts if part.users is not None])
    place = users.argsort()
    read = Read(
        torch.cat([each.read.mass for each in reads])[place],
        torch.cat([each.read.pooled for each in reads])[place],
    )
    penalty = None
    if reads[0].penalty is not None:
        shares = [len(part.rows) / len(users) for part in parts]
        every = zip(reads, shares, strict=True)
        penalty = torch.stack([r.penalty * share for r, share in every if r.penalty is not None])
        penalty = penalty.sum()
    auxiliary = zip(*(each.auxiliary for each in reads), strict=True)
    return TrainRead(read, penalty, tuple(torch.cat(logits)[place] for logits in auxiliary))
