"""Checks of slates: the same slate in two parts, histories that reach the target, labels that follow from the user."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from builder.audit.checks import Check
from builder.audit.view import Ints, View
from builder.dataset.batches import Part, Slates, Targets
from builder.ingest.events import Events
from models.contract.schema import PADDING

DUPLICATES = "duplicates across parts"
HISTORIES = "history reaches the target"
CONSTANT = "label constant per user"
SMALLEST = 4
"""Slates of fewer events repeat by themselves: a household buys the same milk again."""
LIMIT = 0.01
"""Largest share of a part's slates that may repeat one of another part."""
CONSTANT_TARGETS, CONSTANT_USERS = 5, 20
"""Users with fewer targets are left out; with fewer users nothing is concluded."""
CONSTANT_LIMIT, CONSTANT_EXPECTED = 0.9, 0.5
"""The check fails if more users have one class than the first, while chance alone gives at most the second."""


def duplicate_checks(events: Events, parts: Mapping[Part, Slates]) -> list[Check]:
    """Slates that have the same events as one of an earlier part: of the same user, or at the same time.

    Args:
        events: the log.
        parts: part -> all its slates, the training part first.
    """
    checks, before = [], np.zeros(0, np.uint64)
    for part, slates in parts.items():
        keys, is_large = _contents(events, slates)
        repeated = np.isin(keys, before).any(0) & is_large
        before = np.concatenate([before, keys[:, is_large].ravel()])
        if part != next(iter(parts)):
            text = f"slates of {SMALLEST} events or more whose items and labels are those of a slate of another part"
            sums = int(repeated.sum()), int(is_large.sum())
            checks.append(Check(DUPLICATES, part, *sums, LIMIT, text).judged())
    return checks


def _contents(events: Events, slates: Slates) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Two keys of each slate: its events with its user, and with its time, [2, S]; and which slates are large, [S]."""
    item, label = np.asarray(events.item).astype(np.uint64), np.asarray(events.label)
    mixed = _mix(item * np.uint64(2) + label.astype(np.uint64))
    # Sums do not depend on the order of a slate's events; they wrap around.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    content = sums[slates.end] - sums[slates.begin]
    ts_s = np.asarray(events.ts_s)[slates.begin]
    by_user = _mix(content + _mix(slates.user.astype(np.uint64)))
    by_time = _mix(content + _mix(ts_s.astype(np.uint64) + np.uint64(1 << 62)))
    return np.stack([by_user, by_time]), slates.end - slates.begin >= SMALLEST


def _mix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each word: SplitMix64 (Steele, Lea, Flood 2014)."""
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))


class HistoryCheck:
    """Compares histories with the log: the latest L positives of the user with times before the target's.

    Args:
        events: the log.
    """

    def __init__(self, events: Events) -> None:
        self._item, self._ts_s = np.asarray(events.item), np.asarray(events.ts_s)
        self._offsets = np.asarray(events.offsets)
        self._positive = np.flatnonzero(np.asarray(events.label))
        self._found = self._checked = 0

    def add(self, slates: Slates, targets: Targets) -> None:
        """Check the histories of a batch.

        Args:
            slates: the batch's slates, in its order.
            targets: the batch.
        """
        for row, (user, begin) in enumerate(zip(slates.user, slates.begin, strict=True)):
            start, stop = self._offsets[user], self._offsets[user + 1]
            end = start + np.searchsorted(self._ts_s[start:stop], self._ts_s[begin], side="left")
            low, high = np.searchsorted(self._positive, [start, end])
            history = targets.history[row]
            expected = self._item[self._positive[max(low, high - len(history)) : high]]
            is_right = np.array_equal(history[history != PADDING], expected)
            self._found += not is_right
            self._checked += 1

    def result(self, part: str) -> Check:
        """The check of a part."""
        text = "histories that are not the user's latest positives before the target's time"
        return Check(HISTORIES, part, self._found, self._checked, 0.0, text).judged()


class ConstantCheck:
    """Counts users whose targets all have one label.

    Args:
        num_users: users of the log.
    """

    def __init__(self, num_users: int) -> None:
        self._targets = np.zeros(num_users, np.int64)
        self._positives = np.zeros(num_users)

    def add(self, view: View) -> None:
        """Count a batch's targets."""
        size = len(self._targets)
        self._targets += np.bincount(view.user, minlength=size)
        self._positives += np.bincount(view.user, view.label, size)

    def result(self, part: str) -> Check:
        """The check of a part."""
        chosen = self._targets >= CONSTANT_TARGETS
        targets, positives = self._targets[chosen], self._positives[chosen]
        constant = int(((positives == 0) | (positives == targets)).sum())
        expected = self._by_chance(targets)
        tells = len(targets) >= CONSTANT_USERS and expected <= CONSTANT_EXPECTED
        limit = CONSTANT_LIMIT if tells else 1.0
        text = (
            f"users of {CONSTANT_TARGETS} targets or more with one label; {expected:.1%} by chance"
        )
        return Check(CONSTANT, part, constant, len(targets), limit, text).judged()

    def _by_chance(self, targets: Ints) -> float:
        """Share of users that have one label if labels are drawn independently."""
        if not len(targets):
            return 1.0
        share = self._positives.sum() / self._targets.sum()
        return float((share**targets + (1 - share) ** targets).mean())
