"""How many cores this process may use, which in a container is not how many the machine has."""

import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use (cgroup v2)."""


def num_cores(cgroup: Path = CGROUP) -> int:
    """Cores of the machine, of the part that this process is pinned to, or of its quota: the fewest, at least one."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, min(len(os.sched_getaffinity(0)), _quota(cgroup / "cpu.max")))


def _quota(path: Path) -> int:
    """Whole cores of a quota, written as `max 100000` or `150000 100000` (microseconds of each period)."""
    try:
        quota, period = path.read_text().split()
        return sys.maxsize if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        return sys.maxsize
