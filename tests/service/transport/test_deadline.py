"""Deadline and priority, as the headers name them."""

import pytest

from models.contract.errors import RequestError
from service.settings import Settings
from service.transport.deadline import deadline_after, read_deadline_and_priority


@pytest.mark.parametrize(
    ("header", "text"),
    [("X-Request-Timeout-Ms", bad) for bad in ("0", "-1", "1.5", "soon", "", "9" * 30, "²")]
    + [("X-Request-Priority", bad) for bad in ("-1", "high", "")],
)
def test_a_header_that_is_not_a_whole_number_is_rejected(header: str, text: str):
    with pytest.raises(RequestError, match=f"{header}: got '{text}', expected a whole number"):
        read_deadline_and_priority({header.lower().encode(): text.encode("latin-1")}, Settings())


def test_deadline_and_priority_have_defaults_and_a_maximum():
    chosen = Settings(timeout_ms=1000, max_timeout_ms=2000)
    now = deadline_after(chosen, 0.0)
    usual, level = read_deadline_and_priority({}, chosen)
    longest, urgent = read_deadline_and_priority(
        {b"x-request-timeout-ms": b"999999", b"x-request-priority": b"1"}, chosen
    )
    assert usual - now == pytest.approx(1, abs=0.1)
    assert longest - now == pytest.approx(2, abs=0.1)
    assert (level, urgent) == (0, 1)
