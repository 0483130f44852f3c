"""Number of cores that this process may use."""

import os
from pathlib import Path

import pytest

from service.process.cores import num_cores

MINE = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", MINE),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("nonsense", MINE),
        (None, MINE),
    ],
)
def test_a_cpu_quota_limits_the_cores(tmp_path: Path, quota: str | None, expected: int):
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert num_cores(tmp_path) == min(MINE, expected)


@pytest.mark.skipif("sched_setaffinity" not in dir(os), reason="Linux pins processes")
def test_a_pinned_process_counts_its_own_cores(tmp_path: Path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert num_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
