"""Seconds of each phase, for the report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Phase -> seconds. A phase may come again; one inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner_s = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time the block."""
        outer, self._inner_s, start = self._inner_s, 0.0, time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent - self._inner_s
            self._inner_s = outer + spent
