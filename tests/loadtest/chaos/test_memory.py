import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from loadtest.chaos.memory import RETURNED, growth, leak, resident_bytes

HOLDER = """
import sys
kept = []
for number, line in enumerate(sys.stdin):
    fresh = bytearray(b"x" * 2_000_000)
    if sys.argv[1] == "leaks":
        kept.append(fresh)
    if sys.argv[1] == "frees" and number == 10:
        parts = [bytearray(b"x" * 100_000) for _ in range(100)]
        kept.append(parts.pop())  # it lies behind the others in the heap
        parts.clear()
    print(flush=True)
"""


def samples_of(kind: str, variables: Mapping[str, str]) -> list[int]:
    """Memory of a process that holds what it gets, holds nothing, or holds 10 MB for a moment."""
    samples = []
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, kind],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        asking, answering = process.stdin, process.stdout
        assert asking is not None
        assert answering is not None
        for _ in range(20):
            asking.write(b"\n")
            asking.flush()
            answering.readline()
            samples.append(resident_bytes(process.pid))
        asking.close()
    return samples


@pytest.mark.parametrize("kind", ["leaks", "is flat"])
def test_only_a_process_that_leaks_is_reported(kind: str) -> None:
    for variables in ({}, RETURNED):
        assert (leak(samples_of(kind, variables)) != "") == (kind == "leaks")


def test_freed_memory_that_is_not_returned_looks_like_a_leak() -> None:
    assert leak(samples_of("frees", {})) != ""
    assert leak(samples_of("frees", RETURNED)) == ""


def test_growth_compares_the_ends_and_ignores_a_peak() -> None:
    mib = 1 << 20
    assert growth([100 * mib, 110 * mib]) == pytest.approx(1.1)
    assert leak([100 * mib] * 5 + [300 * mib] + [101 * mib] * 20) == ""
    assert "grew by 10.0%" in leak([100 * mib] * 10 + [110 * mib] * 10)
    assert leak([mib, mib + 300_000]) == ""  # a third of a mebibyte is no leak
    assert leak([100 * mib]) == ""
