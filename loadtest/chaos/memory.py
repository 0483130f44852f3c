"""Memory of a process and its children, and whether it grows.

Resident memory is not memory in use: what glibc keeps after `free` for the next `malloc` counts too. A service holds
two generations for a moment at each change, and more while requests are slow, since each keeps its own until it ends;
what they leave stays resident. It grows with the largest number at once, not with the number of changes. So scenarios
that change generations ignore the first changes, and have freed memory returned (`RETURNED`).
"""

from collections.abc import Sequence

import numpy as np
import psutil

LIMIT = 1.05
"""Largest allowed ratio of the memory at the end to the memory at the beginning."""
SLACK_BYTES = 1 << 20
"""Growth that is ignored: a few pages of a small process."""

RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16), "MALLOC_TRIM_THRESHOLD_": str(1 << 16)}
"""Environment variables with which glibc returns freed memory: blocks from 64 KiB up, and the end of the heap."""


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its children; 0 if the process has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(int(member.memory_info().rss) for member in family)
    except psutil.NoSuchProcess:
        return 0


def growth(samples: Sequence[int]) -> float:
    """Ratio of the memory at the end to that at the beginning: medians of a fifth each, which ignore single peaks."""
    part = max(len(samples) // 5, 1)
    return float(np.median(samples[-part:]) / max(float(np.median(samples[:part])), 1.0))


def leak(samples: Sequence[int]) -> str:
    """The reason why memory is not flat; empty if it is. Samples are bytes after warm-up, in order."""
    if len(samples) < 2:
        return ""
    grown = growth(samples)
    added = (grown - 1) * float(np.median(samples[: max(len(samples) // 5, 1)]))
    if grown <= LIMIT or added <= SLACK_BYTES:
        return ""
    limit = f"{100 * (LIMIT - 1):.0f}%"
    return f"memory grew by {100 * (grown - 1):.1f}% ({added / (1 << 20):.1f} MiB), at most {limit} is allowed"
