"""The header traceparent of W3C Trace Context: which values are valid, and which are ignored."""

import pytest

from service.observability.traceparent import TraceParent, read_traceparent

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-03", True),  # other flags say nothing to us
        (f"00-{TRACE}-{PARENT}-fe", False),
        (f" {GOOD}\t", True),
        (f"01-{TRACE}-{PARENT}-01", True),  # a later version
        (f"fe-{TRACE}-{PARENT}-01-what-is-new", True),
    ],
)
def test_a_valid_header_is_read(value: str, sampled: bool):
    assert read_traceparent([value.encode()]) == TraceParent(TRACE, PARENT, sampled)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        GOOD[:-1],
        f"{GOOD}-what-is-new",  # version 00 has no more fields
        f"{GOOD}0",
        f"01-{TRACE}-{PARENT}-01what",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-011",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"00-{TRACE}-{PARENT}-0A",
        f"0G-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00_{TRACE}-{PARENT}-01",
        f"00-{TRACE}_{PARENT}-01",
        f"00-{TRACE}-{PARENT}_01",
        f"00-{TRACE[:-1]}é-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE[:-1]} -{PARENT}-01",
    ],
)
def test_an_invalid_header_is_ignored(value: str):
    assert read_traceparent([value.encode()]) is None


def test_a_missing_or_repeated_header_is_ignored():
    assert read_traceparent([]) is None
    assert read_traceparent([GOOD.encode()] * 2) is None
