"""The host tier: decoded records in the memory of this process, and users that have no record in the cache."""

from collections.abc import Callable
from typing import Final

from service.generations.serving import Serving
from service.runtime.engines.engine import State
from service.state.byte_lru import ByteLru
from service.state.cached_user import CachedUser, footprint

ABSENT_SHARE = 16
"""1/16 of the limit is reserved for absent users, so that many requests for unknown users evict no record."""
SWEEP_ENTRIES = 256
"""Entries freed per turn of the event loop: well under a millisecond."""


class Absent:
    """The cache has no record of a user."""


ABSENT: Final = Absent()


class HostTier:
    """Recently read users, by generation.

    Attributes:
        users: users with a record.
        absent: users without one.
        limit_bytes: largest sum of all entries' sizes.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, limit_bytes: int, ttl_s: float, absent_ttl_s: float, clock: Callable[[], float]
    ) -> None:
        """Start empty.

        Args:
            limit_bytes: largest sum of all entries' sizes; 0 stores nothing.
            ttl_s: seconds after the read for which a record is used.
            absent_ttl_s: seconds for which the cache is not asked again after it had no record.
            clock: returns monotonic seconds.
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
        """Sum of all entries' sizes."""
        return self.users.num_bytes + self.absent.num_bytes

    @property
    def evictions(self) -> int:
        """Number of entries removed to make room."""
        return self.users.evictions + self.absent.evictions

    def open(self, serving: Serving) -> None:
        """Accept entries of `serving` from now on, until `close`."""
        self.users.open(serving)
        self.absent.open(serving)

    def close(self, serving: Serving) -> None:
        """Make the entries of `serving` unreachable at once; `sweep` frees them."""
        self.users.close(serving)
        self.absent.close(serving)

    def empty(self, serving: Serving) -> None:
        """Make the entries of `serving` unreachable at once, and accept new ones; `sweep` frees them."""
        self.close(serving)
        self.open(serving)

    def sweep(self) -> bool:
        """Free some entries of closed generations; False once none is left."""
        return self.users.sweep(SWEEP_ENTRIES) or self.absent.sweep(SWEEP_ENTRIES)

    def expiry_s(self, read_at_s: float) -> float:
        """When a record expires that was read at a moment, both on this tier's clock."""
        return read_at_s + self._ttl_s

    def get(self, serving: Serving, user_id: str) -> CachedUser | Absent | None:
        """The user's record, or `ABSENT`; None if the host tier knows neither."""
        now_s = self.clock()
        return self.users.get(serving, user_id, now_s) or self.absent.get(serving, user_id, now_s)

    def holds(self, serving: Serving, user_id: str) -> bool:
        """Whether the host tier knows the user's record, or that there is none."""
        return self.get(serving, user_id) is not None

    def held(self, serving: Serving) -> list[str]:
        """Ids of the users of whom the host tier knows something."""
        return self.users.names(serving) + self.absent.names(serving)

    def remove(self, serving: Serving, user_id: str) -> None:
        """Remove what is known of a user."""
        self.users.remove(serving, user_id)
        self.absent.remove(serving, user_id)

    def drop(self, serving: Serving, user_id: str, state: State) -> None:
        """Remove a user's record if it is the one with this state; a newer one stays."""
        user = self.users.get(serving, user_id, self.clock())
        if user is not None and user.state is state:
            self.users.remove(serving, user_id)

    def put(
        self, serving: Serving, user_id: str, user: CachedUser | Absent, read_at_s: float
    ) -> bool:
        """Store the result of a read.

        Args:
            serving: the generation that was read.
            user_id: raw id.
            user: the record, or `ABSENT`.
            read_at_s: when the read began, on this tier's clock; the entry expires relative to it.

        Returns:
            Whether it was stored: not if it is too large, or if the generation no longer serves.
        """
        if isinstance(user, Absent):
            self.users.remove(serving, user_id)
            until_s = read_at_s + self._absent_ttl_s
            return self.absent.put(serving, user_id, user, footprint(user_id, None), until_s)
        self.absent.remove(serving, user_id)
        until_s = self.expiry_s(read_at_s)
        return self.users.put(serving, user_id, user, footprint(user_id, user), until_s)
