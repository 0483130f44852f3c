"""Open loop: requests are sent on a schedule, and their latency counts from their due time.

A generator that waits for each answer before it sends the next request stops measuring when the service stalls
(coordinated omission). Here a stall of one second at 100 requests per second raises the latency of a hundred requests.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray


def poisson_schedule(rate_per_s: float, duration_s: float, seed: int) -> NDArray[np.float64]:
    """Due times in seconds from the start: a Poisson process with exactly the mean number of arrivals.

    Args:
        rate_per_s: mean arrivals per second.
        duration_s: end of the schedule.
        seed: seed; the same seed gives the same schedule.
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
    """Call `send` with the due time of each arrival, at that time or as soon after it as possible.

    Args:
        schedule_s: due times in seconds from now, not decreasing.
        now: clock in seconds.
        sleep: waits for some seconds.
        send: called with the due time on `now`'s clock; must not block.
    """
    start = now()
    for offset in schedule_s:
        wait = start + offset - now()
        if wait > 0:
            sleep(wait)
        send(start + offset)
