"""Metrics of the live events that clients send."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

from models.contract.errors import AbsorbError


class EventMetrics:
    """Counts events by what became of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "absorb_events",
            "Events of POST /v1/events: accepted, duplicate (known already), or refused (forgotten user, too many "
            "waiting, or the cache did not answer).",
            ["result"],
            registry=registry,
        )
        for result in ("accepted", "duplicate", "refused"):
            self._events.labels(result)

    def accepted(self, new: int, duplicates: int) -> None:
        """Count events that were written."""
        self._events.labels("accepted").inc(new)
        self._events.labels("duplicate").inc(duplicates)

    @contextmanager
    def counted(self, events: int) -> Iterator[None]:
        """Count events whose writing fails within the block as refused."""
        try:
            yield
        except AbsorbError:
            self._events.labels("refused").inc(events)
            raise
