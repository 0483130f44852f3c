"""One cell of the bench: a concurrency, a slate size, a pause, and the figures."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from loadtest.peers.queries import SLATES

CONCURRENCIES = (1, 8)


@dataclass(frozen=True)
class Cell:
    """Number of requests in flight, number of candidates of each, and pause between an answer and the next request."""

    concurrency: int
    slate: int
    pause_ms: int = 0

    def __str__(self) -> str:
        pause = f"-pause{self.pause_ms}ms" if self.pause_ms else ""
        return f"c{self.concurrency}-B{self.slate}{pause}"


PAUSED = Cell(1, SLATES[0], pause_ms=3)
"""One at a time with pauses: caches cool down and threads fall asleep, as they do between real requests."""
CELLS = (*(Cell(c, slate) for c, slate in product(CONCURRENCIES, SLATES)), PAUSED)


@dataclass(frozen=True)
class Measured:
    """Figures of one row and cell in one round.

    Attributes:
        answers: number of answers.
        per_s: answers per second.
        p50_ms: median latency.
        p90_ms: 90th percentile, nearest rank.
        p99_ms: 99th percentile, nearest rank.
        degraded: answers that Absorb scored from the cold-start state, for example because the cache was late.
    """

    answers: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    degraded: int


def measured(latency_s: NDArray[np.float64], elapsed_s: float, degraded: int = 0) -> Measured:
    """Summary of a cell's latencies.

    Raises:
        ValueError: there are no latencies.
    """
    if not len(latency_s):
        raise ValueError(f"no answer in {elapsed_s:.1f} s")
    p50, p90, p99 = np.percentile(1000 * latency_s, (50, 90, 99), method="inverted_cdf").tolist()
    return Measured(len(latency_s), len(latency_s) / elapsed_s, p50, p90, p99, degraded)
