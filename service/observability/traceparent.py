"""The W3C header `traceparent`: which trace a caller's request belongs to (Trace Context, level 1).

    00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>

Lower-case hex only; ids of zeros only and version ff are invalid, and so is a header that comes twice. What is invalid
is ignored: the request starts a trace of its own, and `tracestate` is not read. A later version than ours is read as
far as ours goes.
"""

from dataclasses import dataclass

LENGTH = 55
"""Characters of version 00, and the least of any other."""
SAMPLED = 1
HEX = frozenset(b"0123456789abcdef")
NO_TRACE = b"0" * 32
NO_PARENT = b"0" * 16


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A valid header.

    Attributes:
        trace_id: 32 hex digits.
        parent_id: 16 hex digits: the caller's span.
        sampled: whether the caller records this trace.
    """

    trace_id: str
    parent_id: str
    sampled: bool


def read_traceparent(values: list[bytes]) -> TraceParent | None:
    """The header's meaning.

    Args:
        values: of every `traceparent` header of the request.

    Returns:
        None if there is none, or none that is valid.
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
    """Whether what follows our fields may be there: a later version may add some, behind another dash."""
    return version != b"00" and value[LENGTH : LENGTH + 1] == b"-"
