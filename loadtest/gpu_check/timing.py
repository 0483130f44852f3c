"""Times of one call: by the host's clock from end to end, and on the device between two CUDA events."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

WARM_UP_CALLS = 5
MIN_CALLS = 12
MAX_CALLS = 400
Quantiles = dict[str, float]
"""p50 and p99, in µs."""


def host_us(call: Callable[[], object], seconds: float) -> Quantiles:
    """Time a call that returns when its result is on the host.

    Args:
        call: what is timed.
        seconds: time limit; at least `MIN_CALLS` calls are timed anyway.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    times_us: list[float] = []
    end = time.perf_counter() + seconds
    while len(times_us) < MIN_CALLS or (time.perf_counter() < end and len(times_us) < MAX_CALLS):
        start = time.perf_counter()
        call()
        times_us.append(1e6 * (time.perf_counter() - start))
    return quantiles(times_us)


def device_us(call: Callable[[], object], seconds: float) -> Quantiles:
    """Time a call between two events on the current stream, with calls queued one behind the other.

    Gaps between the kernels of a call count. They dominate if the host launches more slowly than the device runs.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    call_s = max(time.perf_counter() - start, 1e-6)
    count = int(min(MAX_CALLS, max(MIN_CALLS, seconds / call_s)))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]  # type: ignore[no-untyped-call]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return quantiles([1e3 * before.elapsed_time(after) for before, after in pairwise(events)])


def quantiles(times_us: Sequence[float]) -> Quantiles:
    """Median and 99th percentile."""
    p50, p99 = np.percentile(times_us, (50, 99))
    return {"p50": float(p50), "p99": float(p99)}


def columns(prefix: str, times: Quantiles) -> dict[str, float]:
    """The quantiles as columns of a table: "device p50"."""
    return {f"{prefix} {name}": us for name, us in times.items()}
