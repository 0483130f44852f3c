"""Number of cores that this process may use; in a container that can be fewer than the machine has."""

import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of a container (cgroup v2)."""


def num_cores(cgroup: Path = CGROUP) -> int:
    """The smaller of the CPU affinity and the CPU quota in whole cores; at least 1. Outside Linux, all cores."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, min(len(os.sched_getaffinity(0)), _quota(cgroup / "cpu.max")))


def _quota(path: Path) -> int:
    """Whole cores of a quota such as `max 100000` or `150000 100000` (microseconds per period)."""
    try:
        quota, period = path.read_text().split()
        return sys.maxsize if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        return sys.maxsize
