import numpy as np
import pytest

from loadtest.peers.cells import measured


def test_percentiles_are_measured_latencies() -> None:
    got = measured(np.arange(1, 101) / 1000, 2.0)
    assert (got.answers, got.per_s) == (100, 50)
    assert (got.p50_ms, got.p90_ms, got.p99_ms) == pytest.approx((50, 90, 99))


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no answer in 1\.5 s"):
        measured(np.zeros(0), 1.5)
