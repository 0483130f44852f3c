import subprocess
import sys

import pytest

from loadtest.chaos.memory import growth, leak, resident_bytes

HOLDER = """
import sys
kept = []
for line in sys.stdin:
    fresh = bytearray(b"x" * 2_000_000)
    if sys.argv[1] == "leaks":
        kept.append(fresh)
    print(flush=True)
"""


@pytest.mark.parametrize("kind", ["leaks", "is flat"])
def test_only_a_process_that_leaks_is_reported(kind: str) -> None:
    samples = []
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
    assert (leak(samples) != "") == (kind == "leaks")


def test_growth_compares_the_ends_and_ignores_a_peak() -> None:
    mib = 1 << 20
    assert growth([100 * mib, 110 * mib]) == pytest.approx(1.1)
    assert leak([100 * mib] * 5 + [300 * mib] + [101 * mib] * 20) == ""
    assert "grew by 10.0%" in leak([100 * mib] * 10 + [110 * mib] * 10)
    assert leak([mib, mib + 300_000]) == ""  # a third of a mebibyte is no leak
    assert leak([100 * mib]) == ""
