"""A request's deadline and priority.

Under /v1 both are headers. `X-Request-Timeout-Ms`: whole milliseconds from the arrival of the request; absent:
`ABSORB_TIMEOUT_MS`; more than `ABSORB_MAX_TIMEOUT_MS` counts as that. `X-Request-Priority`: 1 leaves the queue first,
5 last; 0 or absent means 3, and more than 5 counts as 5.
"""

import time

from models.contract.errors import RequestError
from service.settings import Settings
from service.transport.headers import Headers

TIMEOUT = "X-Request-Timeout-Ms"
PRIORITY = "X-Request-Priority"
TIMEOUT_HEADER, PRIORITY_HEADER = TIMEOUT.lower().encode(), PRIORITY.lower().encode()
MAX_DIGITS = 18
"""Longest number that is read: 18 digits of milliseconds are already 30 million years."""


def deadline_after(settings: Settings, wanted_s: float | None) -> float:
    """Deadline of a request that arrives now, as a moment of `time.monotonic()`.

    Args:
        settings: default and maximum timeout.
        wanted_s: timeout that the client asks for, in seconds; None: it asks for none.
    """
    wanted_s = settings.timeout_ms / 1000 if wanted_s is None else wanted_s
    return time.monotonic() + min(wanted_s, settings.max_timeout_ms / 1000)


def read_deadline_and_priority(headers: Headers, settings: Settings) -> tuple[float, int]:
    """Read deadline and priority, as `Query` has them, from the headers.

    Raises:
        RequestError: a header is not a whole number of at least 1 (timeout) or 0 (priority).
    """
    wanted_s, level = None, 0
    if (timeout_ms := headers.get(TIMEOUT_HEADER)) is not None:
        wanted_s = whole_number(TIMEOUT, timeout_ms.decode("latin-1"), 1) / 1000
    if (priority := headers.get(PRIORITY_HEADER)) is not None:
        level = whole_number(PRIORITY, priority.decode("latin-1"), 0)
    return deadline_after(settings, wanted_s), level


def whole_number(name: str, text: str, least: int) -> int:
    """Read a number from a header.

    Args:
        name: name of the header.
        text: its value.
        least: smallest allowed number.

    Raises:
        RequestError: it is not a whole number, or less than `least`.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not is_number or int(text) < least:
        raise RequestError(name, text, f"a whole number, at least {least}")
    return int(text)
