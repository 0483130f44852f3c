"""Sums over targets by rule and group, from which shares of positives and their intervals follow."""

import math
from dataclasses import dataclass

import numpy as np

from builder.audit.rules import NOT_APPLICABLE
from builder.audit.view import Ints, View

Z = 1.96
"""95 % intervals."""
DENSE = 1 << 16
"""Largest number of (user, group) pairs that are counted in a dense array; larger ones are mostly empty."""


class Tally:
    """Sums of one rule's groups in one part.

    Args:
        num_groups: number of groups.
    """

    def __init__(self, num_groups: int) -> None:
        self.targets = np.zeros(num_groups)
        self.positives = np.zeros(num_groups)
        self.weight = np.zeros(num_groups)
        self.clicked = np.zeros(num_groups)
        """Weight of the positives."""
        self._squares = np.zeros((3, num_groups))
        """Sums over users of clicked², clicked · weight and weight²: the variance between users."""
        self._own_squares = np.zeros(num_groups)
        """Sums of the targets' weight²: the variance that is left if users do not matter."""

    def add(self, view: View, group: Ints) -> None:
        """Add targets. All targets of a user must come in one view."""
        size, weight, user = len(self.targets), view.weight, view.user_place
        if (group == NOT_APPLICABLE).any():
            chosen = np.flatnonzero(group != NOT_APPLICABLE)
            group, weight, user = group[chosen], weight[chosen], user[chosen]
            positive = np.flatnonzero(view.label[chosen])
        else:
            positive = view.positive
        pair = user * size + group
        cells, cell = _cells(pair, view.num_users * size)
        of_cell = cells % size
        targets = np.bincount(cell, minlength=len(cells))
        total = targets if view.is_unweighted else np.bincount(cell, weight, len(cells))
        clicked = np.bincount(cell[positive], weight[positive], len(cells))
        self.targets += np.bincount(of_cell, targets, size)
        self.positives += np.bincount(group[positive], minlength=size)
        self.weight += np.bincount(of_cell, total, size)
        self.clicked += np.bincount(of_cell, clicked, size)
        own = targets if view.is_unweighted else np.bincount(cell, weight * weight, len(cells))
        self._own_squares += np.bincount(of_cell, own, size)
        for row, product in enumerate((clicked * clicked, clicked * total, total * total)):
            self._squares[row] += np.bincount(of_cell, product, size)

    def joined(self, groups: Ints) -> "Tally":
        """A tally with one more group: the sum of some groups."""
        joined = Tally(len(self.targets) + 1)
        for name in ("targets", "positives", "weight", "clicked", "_squares", "_own_squares"):
            sums = getattr(self, name)
            total = sums[..., groups].sum(-1, keepdims=True)
            setattr(joined, name, np.concatenate([sums, total], -1))
        return joined

    def design_effect(self) -> float:
        """Variance of the share of positives in the first group, over that of independent targets; at least 1.

        A user's targets are alike, so that there is less to learn from them than from as many users.
        """
        weight, clicked = self.weight[0], self.clicked[0]
        share = clicked / weight if weight else 0.0
        if not 0 < share < 1:
            return 1.0
        aa, ab, bb = self._squares[:, 0]
        between = max(0.0, aa - 2 * share * ab + share * share * bb)
        return max(1.0, float(between / (share * (1 - share) * self._own_squares[0])))

    def share(self, group: int, design_effect: float) -> "Share":
        """Share of positives in a group.

        Args:
            group: place of the group.
            design_effect: of all targets; used where the group has one class, whose variance shows nothing.
        """
        weight = float(self.weight[group])
        if not weight:
            return Share(math.nan, 0.0, 1.0)
        share = min(1.0, float(self.clicked[group] / weight))
        own = float(self._own_squares[group])
        effective = weight * weight / own / design_effect
        if 0 < share < 1:
            aa, ab, bb = self._squares[:, group]
            between = max(0.0, float(aa - 2 * share * ab + share * share * bb))
            if between:
                effective = min(weight * weight / own, share * (1 - share) * weight**2 / between)
        return Share(share, *wilson(share, effective))


@dataclass(frozen=True)
class Share:
    """A share of positives and the ends of its 95 % interval; the share is NaN without targets."""

    value: float
    low: float
    high: float


def wilson(share: float, trials: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) without trials.

    Args:
        share: observed share.
        trials: number of independent trials that tell as much.
    """
    if trials <= 0:
        return 0.0, 1.0
    z = Z * Z / trials
    middle = (share + z / 2) / (1 + z)
    half = Z * math.sqrt(share * (1 - share) / trials + z / (4 * trials)) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def _cells(pair: Ints, num_pairs: int) -> tuple[Ints, Ints]:
    """Numbers of the (user, group) pairs that are counted, and the place among them of each target's."""
    if num_pairs <= DENSE:
        return np.arange(num_pairs), pair
    pairs, cell = np.unique(pair, return_inverse=True)
    return pairs, cell
