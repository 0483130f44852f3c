"""The device tier: states in the memory of a GPU, in slots of one size, so that a hit is scored without a copy.

Before a copy becomes visible it is complete; a newer record removes the older one before it is copied. A slot is free
again once neither this tier nor a running request refers to its state (`service/runtime/engines/torch/slots.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from service.generations.serving import Serving
from service.runtime.engines.engine import State, StateMemory
from service.state.byte_lru import ByteLru
from service.state.cached_user import CachedUser

MAX_COPIES = 64
"""Copies that may wait; a user beyond them stays in the host tier, and is offered again by the next request."""
SWEEP_ENTRIES = 256
"""Entries freed per turn of the event loop."""

CopyOutcome = Literal["copied", "dropped", "failed", "outdated"]
"""What became of a copy: it is used; too many were waiting; the device failed, or the state cannot be scored; while it
was copied, a newer record was read, or the generation stopped serving."""

log = logging.getLogger(__name__)
MemoryOf = Callable[[Serving], StateMemory | None]


class DeviceTier:
    """Users whose states are in device memory, by generation. Used on the event loop only.

    A generation whose engine keeps no states on a device has no entries, and its lookups skip the tier.

    Attributes:
        users: users with a state on the device; their other data are on the host.
        limit_bytes: largest sum of all slots.
        outcomes: outcome -> number of copies.
        is_used: whether any generation so far keeps states on a device; without one, nothing asks this tier.
    """

    def __init__(self, limit_bytes: int, memory_of: MemoryOf, clock: Callable[[], float]) -> None:
        """Start empty.

        Args:
            limit_bytes: largest sum of all slots; 0 stores nothing.
            memory_of: where a generation's engine keeps states; None: nowhere.
            clock: returns monotonic seconds.
        """
        self.users: ByteLru[Serving, CachedUser] = ByteLru(limit_bytes)
        self.limit_bytes = limit_bytes
        self.is_used = False
        self.outcomes: dict[CopyOutcome, int] = {
            "copied": 0,
            "dropped": 0,
            "failed": 0,
            "outdated": 0,
        }
        self._memory_of = memory_of
        self._clock = clock
        self._copies: dict[tuple[Serving, str], asyncio.Future[State]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device-copies")

    @property
    def num_waiting(self) -> int:
        """Copies that have not ended."""
        return len(self._copies)

    def open(self, serving: Serving) -> None:
        """Accept users of `serving` from now on, until `close`, if its engine keeps states on a device."""
        if self.serves(serving):
            self.is_used = True
            self.users.open(serving)

    def close(self, serving: Serving) -> None:
        """Make the users of `serving` unreachable at once; `sweep` frees their slots."""
        self.users.close(serving)

    def empty(self, serving: Serving) -> None:
        """Drop the users of `serving`, and accept new ones; copies that have not ended will not be used."""
        self.close(serving)
        self.open(serving)
        for key in [key for key in self._copies if key[0] is serving]:
            del self._copies[key]

    def sweep(self) -> bool:
        """Free some slots of closed generations; False once none is left."""
        return self.users.sweep(SWEEP_ENTRIES)

    def serves(self, serving: Serving) -> bool:
        """Whether lookups in `serving`, open or closed, look here first."""
        return self.limit_bytes > 0 and self._memory_of(serving) is not None

    def held(self, serving: Serving) -> list[str]:
        """Ids of the users on the device, and of those who are being copied."""
        copied = [user_id for copied_to, user_id in self._copies if copied_to is serving]
        return self.users.names(serving) + copied

    def get(self, serving: Serving, user_id: str) -> CachedUser | None:
        """The user, whose state is on the device."""
        return self.users.get(serving, user_id, self._clock())

    def offer(self, serving: Serving, user_id: str, user: CachedUser, until_s: float) -> None:
        """Copy a user's state to the device in the background, unless it is being copied.

        Args:
            serving: the generation that was looked up.
            user_id: raw id.
            user: with its state on the host.
            until_s: when the record expires, on the clock of the tiers.
        """
        key = serving, user_id
        memory = self._memory_of(user.serving) if self.limit_bytes > 0 else None
        if memory is None or key in self._copies:
            return
        if len(self._copies) >= MAX_COPIES:
            self.outcomes["dropped"] += 1
            return
        loop = asyncio.get_running_loop()
        copy = loop.run_in_executor(self._thread, memory.write, user.state)
        self._copies[key] = copy
        num_bytes = memory.slot_bytes

        def end(copy: "asyncio.Future[State]") -> None:
            self.outcomes[self._end(key, user, copy, num_bytes, until_s)] += 1

        copy.add_done_callback(end)

    def _end(
        self,
        key: tuple[Serving, str],
        user: CachedUser,
        copy: "asyncio.Future[State]",
        num_bytes: int,
        until_s: float,
    ) -> CopyOutcome:
        is_outdated = self._copies.get(key) is not copy
        if not is_outdated:
            del self._copies[key]
        if copy.cancelled():
            return "dropped"
        if error := copy.exception():
            log.warning("a state was not copied to the device", extra={"error": str(error)})
            return "failed"
        if is_outdated:
            return "outdated"
        on_device = replace(user, state=copy.result())
        return "copied" if self.users.put(*key, on_device, num_bytes, until_s) else "outdated"

    def drop(self, serving: Serving, user_id: str) -> None:
        """Forget a user; a copy that has not ended will not be used."""
        self.users.remove(serving, user_id)
        self._copies.pop((serving, user_id), None)

    def shutdown(self) -> None:
        """End the thread that copies."""
        self._thread.shutdown(wait=False, cancel_futures=True)
