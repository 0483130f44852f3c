"""Which events are to train, to validate and to test: by time, by user, or by a hash of each event."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "validate", "test")
USER_KEY = b"absorb split 0"
"""Of the hash that splits users: another one gives other users."""
EVENT_KEY = b"absorb events 0"
"""Of the hashes that split events."""
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Split:
    """Which targets are for what. Histories are not cut.

    By time: targets in [train_from_s, validate_from_s) are to train, and so on. By user, where `test_users` is above 0:
    all targets of a user are for the part that the hash of its raw id falls into, whenever they were. By event, where
    `test_events` is above 0: each for the part that a hash of its user's and its item's raw id falls into; so a pair of
    user and item is in one part, however often it comes.

    Attributes:
        train_from_s: epoch second; by user and by event: of the first event.
        validate_from_s: epoch second; by user and by event: `end_s`.
        test_from_s: epoch second; by user and by event: `end_s`.
        end_s: epoch second just after the last event.
        validate_users: share of the users; 0: not by user.
        test_users: share of the users; 0: not by user.
        last_only: a user's only targets are those of the latest time at which it has an event.
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
        """Part of each event as a place in `PARTS`, -1 for none; whether it is a user's last is not looked at.

        Args:
            user_ids: raw ids, [U].
            user: place of each event's user in them, [n].
            item_ids: raw ids, [V].
            item: place of each event's item in them, [n].
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
        """Events that training may count and take values from.

        By time: those before the first target to validate. By user: all events of the users to train on, and none of
        the others, not even of their histories. By event: those to train on. What is known then says nothing of the
        other targets.

        Args:
            part: of each event, as `parts` gives it.
            ts_s: epoch second of each event.
        """
        if self.test_users or self.test_events:
            return np.asarray(part == PARTS.index("train"))
        return np.asarray(ts_s < self.validate_from_s)


def _places(share: NDArray[np.float64], validate: float, test: float) -> NDArray[np.int8]:
    """Places in `PARTS` of numbers from 0 to 1. The test comes first: another share to validate leaves it as it is."""
    edges = [test, test + validate]
    return (len(edges) - np.searchsorted(edges, share, side="right")).astype(np.int8)


def _hash_share(user_id: str) -> float:
    """A number from 0 to 1 that depends on the id alone."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=USER_KEY).digest()
    return int.from_bytes(digest, "big") / 2**64


def _hashes(ids: Sequence[str], kind: bytes) -> Words:
    """64 bits of each id. `kind` tells a user from an item of the same id."""
    digests = [
        hashlib.blake2b(raw_id.encode(), digest_size=8, key=EVENT_KEY, person=kind).digest()
        for raw_id in ids
    ]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _pair_shares(user: Words, item: Words) -> NDArray[np.float64]:
    """Numbers from 0 to 1 that depend on each event's two hashes alone.

    The sum of the two goes through a step of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
    generators, 2014): integer arithmetic of our own, since a library's hash may change with its version, and one call
    of blake2b per event would take a second per million.
    """
    word = user + item + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word = word ^ (word >> np.uint64(31))
    # 53 bits, which is what a float64 holds: no share is rounded up to 1.
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53
