"""On what terms a client asks: how long it waits for the answer, and how urgent it is.

Over /v1 they are headers. `X-Request-Timeout-Ms`: whole milliseconds from the request's arrival; absent:
`ABSORB_TIMEOUT_MS`; more than `ABSORB_MAX_TIMEOUT_MS` is taken as that. `X-Request-Priority`: 1 is taken from the queue
first, 5 last; 0 or absent is 3, and more than 5 is taken as 5.
"""

import time
from collections.abc import Mapping

from models.contract.errors import RequestError
from service.settings import Settings

TIMEOUT = "X-Request-Timeout-Ms"
PRIORITY = "X-Request-Priority"
MAX_DIGITS = 18
"""Longer numbers are no time that anybody waits."""


def deadline_after(settings: Settings, wanted_s: float | None) -> float:
    """Moment of `time.monotonic()` until which a request that arrives now is answered.

    Args:
        settings: the usual and the longest time are read from here.
        wanted_s: seconds that the client waits; None: it does not say.
    """
    wanted_s = settings.timeout_ms / 1000 if wanted_s is None else wanted_s
    return time.monotonic() + min(wanted_s, settings.max_timeout_ms / 1000)


def read_terms(headers: Mapping[str, str], settings: Settings) -> tuple[float, int]:
    """Deadline and priority, as the headers say, for a `Query`.

    Raises:
        RequestError: a header is no whole number of at least 1 (the time) or 0 (the priority).
    """
    timeout_ms = headers.get(TIMEOUT)
    wanted_s = None if timeout_ms is None else whole_number(TIMEOUT, timeout_ms, 1) / 1000
    priority = headers.get(PRIORITY)
    level = 0 if priority is None else whole_number(PRIORITY, priority, 0)
    return deadline_after(settings, wanted_s), level


def whole_number(name: str, said: str, least: int) -> int:
    """The number that a header says.

    Raises:
        RequestError: it is no whole number, or less than `least`.
    """
    is_number = said.isascii() and said.isdecimal() and len(said) <= MAX_DIGITS
    if not is_number or int(said) < least:
        raise RequestError(name, said, f"a whole number, at least {least}")
    return int(said)
