"""The W3C header `traceparent`: the trace that a client's request belongs to (Trace Context, level 1).

    00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>

Only lower-case hex is valid. Ids of zeros, version ff and a repeated header are invalid. An invalid header is ignored:
the request starts a new trace, and `tracestate` is not read. Of a later version, the fields of version 00 are read.
"""

from dataclasses import dataclass

LENGTH = 55
"""Characters of version 00; a later version has at least as many."""
SAMPLED = 1
HEX = frozenset(b"0123456789abcdef")
NO_TRACE = b"0" * 32
NO_PARENT = b"0" * 16


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A valid header.

    Attributes:
        trace_id: 32 hex digits.
        parent_id: 16 hex digits of the client's span.
        sampled: whether the client records this trace.
    """

    trace_id: str
    parent_id: str
    sampled: bool


def read_traceparent(values: list[bytes]) -> TraceParent | None:
    """Parse the header.

    Args:
        values: value of every `traceparent` header of the request.

    Returns:
        None if the header is missing, repeated or invalid.
    """
    if len(values) != 1:
        return None
    value = values[0].strip(b" \t")
    version, trace_id, parent_id, flags = value[:2], value[3:35], value[36:52], value[53:55]
    dashes = value[2:3] + value[35:36] + value[52:53]
    if len(value) < LENGTH or dashes != b"---" or not HEX.issuperset(version + flags):
        return None
    if version == b"ff" or (len(value) > LENGTH and not _is_later(version, value)):
        return None
    if not HEX.issuperset(trace_id + parent_id) or trace_id == NO_TRACE or parent_id == NO_PARENT:
        return None
    return TraceParent(trace_id.decode(), parent_id.decode(), bool(int(flags, 16) & SAMPLED))


def _is_later(version: bytes, value: bytes) -> bool:
    """Whether text after the fields of version 00 is allowed: a later version may add fields after another dash."""
    return version != b"00" and value[LENGTH : LENGTH + 1] == b"-"
