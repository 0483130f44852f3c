"""From when a folded state measures the ages of its events.

When a state is made, nobody knows when it will be read. A build measures ages from its cut. With a live event after
the cut, measuring from that event would give it age 0: in training that is a user who comes back within seconds. So
ages are measured from the newest event plus the gap that training saw between such an event and the next request
(`Manifest.request_gap_s`). Both depend on the events and on the generation alone, never on when a worker runs.

States that are sums need ages that do not move when an event enters: theirs are measured from the cut, and each event
after the cut has the age of the gap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.age import age_buckets
from models.live.window import Window, right_aligned


@dataclass(frozen=True)
class Ages:
    """How a folder measures ages.

    Attributes:
        gap_s: seconds from a user's newest event to the request that is expected.
        from_cut: whether ages are measured from the cut, for states that are sums.
    """

    gap_s: int
    from_cut: bool = False

    def from_s(self, window: Window) -> int:
        """Epoch second from which the ages of a window's events are measured."""
        if self.from_cut or window.as_of_s == window.cut_s:
            return window.cut_s
        return window.as_of_s + self.gap_s

    def latest(self, window: Window, length: int) -> NDArray[np.int64]:
        """Age buckets of the latest events, right-aligned as `Window.latest_rows`: int64 [length]."""
        from_s = np.int64(self.from_s(window))
        buckets = self.buckets(window.ts_s[-length:], from_s, np.int64(window.cut_s))
        return right_aligned(buckets, length)

    def buckets(
        self,
        ts_s: NDArray[np.int64],
        from_s: NDArray[np.int64] | np.int64,
        cut_s: NDArray[np.int64] | np.int64,
    ) -> NDArray[np.int64]:
        """Age buckets of events at the given epoch seconds, int64 [n].

        Args:
            ts_s: when the events happened, [n].
            from_s: from when ages are measured, one for all or [n].
            cut_s: of the generation, one for all or [n].
        """
        seconds = from_s - ts_s
        if self.from_cut:
            seconds = np.where(ts_s > cut_s, self.gap_s, seconds)
        return age_buckets(seconds)
