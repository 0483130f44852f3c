"""The host tier: users' decoded records in this process's memory, and users whom the cache does not hold."""

from collections.abc import Callable
from typing import Final

from service.generations.serving import Serving
from service.state.byte_lru import ByteLru
from service.state.cached_user import CachedUser, footprint

ABSENT_SHARE = 16
"""One part in so many is for users whom the cache does not hold: a flood of them evicts no record."""
SWEEP_ENTRIES = 256
"""Freed between two turns of the event loop: well under a millisecond."""


class Absent:
    """The cache holds nothing for a user."""


ABSENT: Final = Absent()


class HostTier:
    """What was read lately, by generation. Never weighs more than `limit_bytes`.

    Attributes:
        users: those with a record.
        absent: those without one.
    """

    def __init__(
        self, limit_bytes: int, ttl_s: float, absent_ttl_s: float, clock: Callable[[], float]
    ) -> None:
        """Start empty.

        Args:
            limit_bytes: of all entries together; 0 keeps nothing.
            ttl_s: seconds after its read for which a record is taken from here.
            absent_ttl_s: seconds after a read that found nothing for which the cache is not asked again.
            clock: gives seconds that never go back.
        """
        absent_bytes = limit_bytes // ABSENT_SHARE
        self.users: ByteLru[Serving, CachedUser] = ByteLru(limit_bytes - absent_bytes)
        self.absent: ByteLru[Serving, Absent] = ByteLru(absent_bytes)
        self.limit_bytes = limit_bytes
        self._ttl_s = ttl_s
        self._absent_ttl_s = absent_ttl_s
        self.clock = clock

    @property
    def num_bytes(self) -> int:
        """What all entries weigh."""
        return self.users.num_bytes + self.absent.num_bytes

    @property
    def evictions(self) -> int:
        """Entries that made room for others."""
        return self.users.evictions + self.absent.evictions

    def open(self, serving: Serving) -> None:
        """Let entries of `serving` in; before, and after `close`, nothing of it is kept."""
        self.users.open(serving)
        self.absent.open(serving)

    def close(self, serving: Serving) -> None:
        """Make the entries of `serving` unreachable; `sweep` frees them."""
        self.users.close(serving)
        self.absent.close(serving)

    def sweep(self) -> bool:
        """Free some of the closed entries; False once there are no more."""
        return self.users.sweep(SWEEP_ENTRIES) or self.absent.sweep(SWEEP_ENTRIES)

    def get(self, serving: Serving, user_id: str) -> CachedUser | Absent | None:
        """The user's record, or that the cache has none; None if it is not known here."""
        now_s = self.clock()
        return self.users.get(serving, user_id, now_s) or self.absent.get(serving, user_id, now_s)

    def holds(self, serving: Serving, user_id: str) -> bool:
        """Whether `get` would give something."""
        return self.get(serving, user_id) is not None

    def put(
        self, serving: Serving, user_id: str, found: CachedUser | Absent, read_at_s: float
    ) -> bool:
        """Keep what a read found.

        Args:
            serving: the generation that was read.
            user_id: raw id.
            found: the record, or that there is none.
            read_at_s: when the read began, on this tier's clock: an age counts from there.

        Returns:
            Whether it is kept: not if it is too large, or of a generation that no longer serves.
        """
        if isinstance(found, Absent):
            self.users.remove(serving, user_id)
            until_s = read_at_s + self._absent_ttl_s
            return self.absent.put(serving, user_id, found, footprint(user_id, None), until_s)
        self.absent.remove(serving, user_id)
        until_s = read_at_s + self._ttl_s
        return self.users.put(serving, user_id, found, footprint(user_id, found), until_s)
