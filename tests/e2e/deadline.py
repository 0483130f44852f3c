"""Waits for another process: polls a condition until a deadline, never sleeps for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_S = 600.0
"""Ends a test that hangs: a builder takes ten seconds, and minutes where others train at the same time."""
LOOK_EVERY_S = 0.005
"""Much shorter than the shortest step that a test wants to catch a builder in."""

Found = TypeVar("Found")


def wait_until(look: Callable[[], Found], what: str, limit_s: float = LIMIT_S) -> Found:
    """The first result of `look` that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {limit_s:g} s in vain for {what}"
        time.sleep(LOOK_EVERY_S)
    return found
