"""Memory of a process and its children, and whether it grows."""

from collections.abc import Sequence

import numpy as np
import psutil

LIMIT = 1.05
"""Memory after over memory before: more is a leak."""
SLACK_BYTES = 1 << 20
"""Growth that is no news: a page here and there of a small process."""


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its children; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(int(one.memory_info().rss) for one in family)
    except psutil.NoSuchProcess:
        return 0


def growth(samples: Sequence[int]) -> float:
    """Memory at the end over memory at the beginning: medians of the first and the last fifth, past single peaks."""
    part = max(len(samples) // 5, 1)
    return float(np.median(samples[-part:]) / max(float(np.median(samples[:part])), 1.0))


def leak(samples: Sequence[int]) -> str:
    """Why the memory is not flat; empty if it is. Samples are bytes, after warm-up, in order."""
    if len(samples) < 2:
        return ""
    grown = growth(samples)
    added = (grown - 1) * float(np.median(samples[: max(len(samples) // 5, 1)]))
    if grown <= LIMIT or added <= SLACK_BYTES:
        return ""
    limit = f"{100 * (LIMIT - 1):.0f}%"
    return f"memory grew by {100 * (grown - 1):.1f}% ({added / (1 << 20):.1f} MiB), at most {limit} is allowed"
