"""Which events are for training, validation and testing: by time, by user, or by a hash of each event."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from builder.recipe.recipe import SplitRule

PARTS = ("train", "validate", "test")
DAY_S = 86_400
USER_KEY = b"absorb split 0"
"""Key of the hash that splits users. Another key gives another split."""
EVENT_KEY = b"absorb events 0"
"""Key of the hashes that split events."""
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Split:
    """The part of each target. Histories are not cut.

    By time: targets in [train_from_s, validate_from_s) are for training, and so on. By user, where `test_users` is
    above 0: the hash of a user's raw id decides the part of all its targets. By event, where `test_events` is
    above 0: a hash of the user's and the item's raw ids decides, so that a pair of user and item is in one part however
    often it occurs.

    Attributes:
        train_from_s: epoch second; by user and by event: of the first event.
        validate_from_s: epoch second; by user and by event: `end_s`.
        test_from_s: epoch second; by user and by event: `end_s`.
        end_s: epoch second just after the last event.
        validate_users: share of the users; 0: not by user.
        test_users: share of the users; 0: not by user.
        last_only: only a user's events at its latest time are targets.
        validate_events: share of the pairs of user and item; 0: not by event.
        test_events: share of the pairs of user and item; 0: not by event.
    """

    train_from_s: int
    validate_from_s: int
    test_from_s: int
    end_s: int
    validate_users: float = 0.0
    test_users: float = 0.0
    last_only: bool = False
    validate_events: float = 0.0
    test_events: float = 0.0

    def parts(
        self,
        user_ids: Sequence[str],
        user: NDArray[np.integer],
        item_ids: Sequence[str],
        item: NDArray[np.integer],
        ts_s: NDArray[np.int64],
    ) -> NDArray[np.int8]:
        """Part of each event as a place in `PARTS`, -1 for none, [n]. Ignores `last_only`.

        Args:
            user_ids: raw ids of users.
            user: place of each event's user in `user_ids`, [n].
            item_ids: raw ids of items.
            item: place of each event's item in `item_ids`, [n].
            ts_s: epoch second of each event, [n].
        """
        if self.test_users:
            share = np.array([_hash_share(user_id) for user_id in user_ids])
            return np.asarray(_places(share, self.validate_users, self.test_users)[user])
        if self.test_events:
            share = _pair_shares(_hashes(user_ids, b"user")[user], _hashes(item_ids, b"item")[item])
            return _places(share, self.validate_events, self.test_events)
        edges = (self.train_from_s, self.validate_from_s, self.test_from_s, self.end_s)
        part = np.full(len(ts_s), -1, np.int8)
        for place, (low, high) in enumerate(pairwise(edges)):
            part[(ts_s >= low) & (ts_s < high)] = place
        return part

    def is_known(self, part: NDArray[np.int8], ts_s: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Events that training may count and take values from, [n]. They reveal nothing of the other parts' targets.

        By time: events before the first target to validate. By user: all events of the users to train on, and no event
        of the other users, not even from their histories. By event: the events to train on.

        Args:
            part: part of each event, as `parts` gives it, [n].
            ts_s: epoch second of each event, [n].
        """
        if self.test_users or self.test_events:
            return np.asarray(part == PARTS.index("train"))
        return np.asarray(ts_s < self.validate_from_s)


def cut(ts_s: NDArray[np.int64], targets_s: NDArray[np.int64], rule: SplitRule) -> Split:
    """The split of a log by a recipe's rule.

    Args:
        ts_s: epoch second of every event, in any order.
        targets_s: epoch second of every event that is a target, in any order; shares are shares of these.
        rule: shares of users or of events, days since the first event, or shares of the targets by time.
    """
    first_s, end_s = int(ts_s.min()), int(ts_s.max()) + 1
    if rule.test_users or rule.test_events:
        return Split(
            first_s,
            end_s,
            end_s,
            end_s,
            validate_users=rule.validate_users or 0.0,
            test_users=rule.test_users or 0.0,
            validate_events=rule.validate_events or 0.0,
            test_events=rule.test_events or 0.0,
            last_only=rule.last_only,
        )
    if rule.train_from_day is not None:
        days = (rule.train_from_day, rule.validate_from_day or 0.0, rule.test_from_day or 0.0)
        cuts = [first_s + int(day * DAY_S) for day in days]
    else:
        in_order = np.sort(targets_s)
        shares = (rule.train_from, rule.validate_from, rule.test_from)
        places = [min(int(share * len(in_order)), len(in_order) - 1) for share in shares]
        cuts = [int(in_order[place]) for place in places]
    return Split(cuts[0], cuts[1], cuts[2], end_s, last_only=rule.last_only)


def _places(share: NDArray[np.float64], validate: float, test: float) -> NDArray[np.int8]:
    """Places in `PARTS` of numbers from 0 to 1. The test part comes first, so it does not depend on `validate`."""
    edges = [test, test + validate]
    return (len(edges) - np.searchsorted(edges, share, side="right")).astype(np.int8)


def _hash_share(user_id: str) -> float:
    """A number from 0 to 1 that depends on the user id alone."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=USER_KEY).digest()
    return int.from_bytes(digest, "big") / 2**64


def _hashes(ids: Sequence[str], kind: bytes) -> Words:
    """64-bit hash of each id; `kind` separates users from items of the same id."""
    digests = [
        hashlib.blake2b(raw_id.encode(), digest_size=8, key=EVENT_KEY, person=kind).digest()
        for raw_id in ids
    ]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _pair_shares(user: Words, item: Words) -> NDArray[np.float64]:
    """Numbers from 0 to 1 that depend on each event's two hashes alone, [n].

    The sum of the two hashes goes through one step of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
    number generators, 2014). It is written out here because a library's hash may change with its version, and one call
    of blake2b per event takes a second per million events.
    """
    word = user + item + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word = word ^ (word >> np.uint64(31))
    # A float64 holds 53 bits: with more, a share could be rounded up to 1.
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53
