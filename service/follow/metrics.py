"""Metrics of one worker for Prometheus, on a port of its own. Labels hold no user ids.

What all workers together have left to do is in their status (`models/live/follow_status.py`), which the services export
as `absorb_follow_*`; these say what one worker does.
"""

from collections.abc import Collection, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from models.live.fold import Folder
from models.live.refold import Outcome
from service.errors import MetricsPortError

Reason = Literal["unreadable", "refused", "too_late", "not_folded"]
"""Why an event became a dead letter: it is none; a field is wrong; it is too old; no record could be made with it."""
REASONS: tuple[Reason, ...] = ("unreadable", "refused", "too_late", "not_folded")


class WorkerMetrics:
    """The metrics.

    Attributes:
        registry: holds them.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register every metric.

        Args:
            registry: where; None: a new one.
        """
        self.registry = registry = registry or CollectorRegistry()
        self._records = Counter(
            "absorb_worker_records",
            "Users whose records were looked at, by folder and by what became of them.",
            ["folder", "result"],
            registry=registry,
        )
        self._retries = Counter(
            "absorb_worker_compare_and_set_retries",
            "Users who were read again because their record changed while it was made.",
            registry=registry,
        )
        self._dead = Counter(
            "absorb_worker_dead_letters",
            "Events that became dead letters, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:  # there from the start, or the first one would be no increase
            self._dead.labels(reason)
        self._events = Counter(
            "absorb_worker_events",
            "Events that were folded, redelivered ones included.",
            registry=registry,
        )
        self._catch_ups = Counter(
            "absorb_worker_catch_ups",
            "Catch-ups of a generation that were begun: at the start, after a flip, after lost events.",
            ["model"],
            registry=registry,
        )
        self._add_gauges(registry)

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        self._lag = Gauge(
            "absorb_worker_lag_seconds",
            "Seconds from the arrival of an event until this worker folded it, of the last batch; 0 if none waits.",
            registry=registry,
        )
        self._waiting = Gauge(
            "absorb_worker_waiting_events",
            "Events that no worker has folded yet; -1 if the source cannot tell.",
            registry=registry,
        )
        self._behind = Gauge(
            "absorb_worker_behind_users",
            "Users whom this worker is still catching up.",
            ["model"],
            registry=registry,
        )

    def folded(self, folder: Folder, outcome: Outcome) -> None:
        """Count what became of users of one generation."""
        results: dict[str, Collection[str]] = {
            "written": outcome.written,
            "unchanged": outcome.unchanged,
            "unfollowed": outcome.unfollowed,
            "foreign": outcome.foreign,
            "forgotten": outcome.forgotten,
            "contended": outcome.contended,
            "failed": outcome.failed,
        }
        for result, users in results.items():
            if users:
                self._records.labels(folder.name, result).inc(len(users))
        self._retries.inc(outcome.retries)

    def buried(self, reason: Reason) -> None:
        """Count a dead letter."""
        self._dead.labels(reason).inc()

    def caught_up(self, model: str) -> None:
        """Count a catch-up that begins."""
        self._catch_ups.labels(model).inc()

    def did(self, num_events: int) -> None:
        """Count the events of a batch."""
        self._events.inc(num_events)

    def report(self, lag_s: float, waiting: int | None, behind: Mapping[str, int]) -> None:
        """Set how far the worker is."""
        self._lag.set(lag_s)
        self._waiting.set(-1 if waiting is None else waiting)
        self._behind.clear()
        for model, users in behind.items():
            self._behind.labels(model).set(users)


def serve_metrics(metrics: WorkerMetrics, host: str, port: int) -> int:
    """Answer scrapes in a thread, until the process ends; returns the port.

    Args:
        metrics: what to answer.
        host: address to listen on.
        port: TCP port; 0 takes a free one.

    Raises:
        MetricsPortError: the port cannot be listened on.
    """
    try:
        server, _ = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise MetricsPortError(host, port, str(error)) from error
    return int(server.server_port)
