"""How fast a publish writes, and how long it will still take."""

import time
from collections.abc import Callable

from builder.progress import Progress


class Pace:
    """Adds up the users of written batches, and reports them with keys per second and seconds left.

    Attributes:
        done: users so far.
    """

    def __init__(
        self,
        users: int,
        keys_per_user: int,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            users: how many will be written.
            keys_per_user: 1, or 2 with base histories.
            progress: called after each batch.
            clock: seconds.
        """
        self.done = 0
        self._users, self._keys, self._progress, self._clock = users, keys_per_user, progress, clock
        self._started_s = clock()
        progress(0, users, "users")

    def add(self, number: int) -> None:
        """Report `number` more users as written."""
        self.done += number
        rate = self.rate
        left_s = (self._users - self.done) * self._keys / rate if rate else 0.0
        note = f"users, {rate:,.0f} keys/s, {left_s:,.0f} s left"
        self._progress(self.done, self._users, note)

    @property
    def rate(self) -> float:
        """Keys per second since the start; 0 before any time has passed."""
        elapsed_s = self._clock() - self._started_s
        return self.done * self._keys / elapsed_s if elapsed_s > 0 else 0.0
