"""Open loop: requests leave on a schedule, late or not, and their latency counts from when they were due.

A generator that waits for an answer before it sends the next request stops measuring exactly when the service stalls
(coordinated omission). Here a stall of one second at 100 requests per second costs a hundred requests their latency.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray


def poisson_schedule(rate_per_s: float, duration_s: float, seed: int) -> NDArray[np.float64]:
    """Seconds from the start at which requests are due: a Poisson process with exactly the mean number of arrivals.

    Args:
        rate_per_s: mean arrivals per second.
        duration_s: every arrival is before this.
        seed: the same seed gives the same schedule.
    """
    count = round(rate_per_s * duration_s)
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    return np.sort(np.random.default_rng(seed).uniform(0, duration_s, count))


def pace(
    schedule_s: Iterable[float],
    now: Callable[[], float],
    sleep: Callable[[float], None],
    send: Callable[[float], None],
) -> None:
    """Call `send` with the due time of each arrival, no earlier than that time and never leaving one out.

    Args:
        schedule_s: seconds from now, not decreasing.
        now: clock in seconds.
        sleep: waits for some seconds.
        send: must not block; gets the time, on `now`'s clock, at which the request was due.
    """
    start = now()
    for offset in schedule_s:
        wait = start + offset - now()
        if wait > 0:
            sleep(wait)
        send(start + offset)
