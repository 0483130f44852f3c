"""Times of one call: on the host's clock from end to end, and on the device's between two events."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

MOST = 400
WARM_UP = 5
LEAST = 12


def host_us(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """p50 and p99 of a call that ends when its answer is there, in µs."""
    for _ in range(WARM_UP):
        call()
    found, end = [], time.perf_counter() + seconds
    while len(found) < LEAST or (time.perf_counter() < end and len(found) < MOST):
        start = time.perf_counter()
        call()
        found.append(1e6 * (time.perf_counter() - start))
    return {"p50": float(np.percentile(found, 50)), "p99": float(np.percentile(found, 99))}


def device_us(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """The same between two events on the current stream, of calls that are queued one behind the other.

    Gaps between a call's own kernels count: where the host is slower than the device, they are most of it.
    """
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    one = max(time.perf_counter() - start, 1e-6)
    count = int(min(MOST, max(LEAST, seconds / one)))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    found = [1e3 * a.elapsed_time(b) for a, b in pairwise(events)]
    return {"p50": float(np.percentile(found, 50)), "p99": float(np.percentile(found, 99))}
