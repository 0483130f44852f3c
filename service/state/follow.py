"""How far the workers are that fold events into states, as they say in the cache: for metrics and alerts."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from models.contract.errors import AbsorbError
from models.live.follow_status import Following, following
from service.store.redis import StateStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Freshness:
    """How far states are behind the events that were accepted.

    Attributes:
        lag_s: seconds from the arrival of an event until its states were written, lately, of the slowest worker.
        waiting_events: accepted events that are in no state yet; None: the workers' source cannot tell.
        complete: whether nothing was behind when the workers looked last: no event waited, no user was caught up.
    """

    lag_s: float
    waiting_events: int | None
    complete: bool


class FollowReader:
    """Reads the workers' status now and then.

    Attributes:
        status: what the workers that run said last; None: no worker runs, or no status can be read.
    """

    def __init__(self, store: StateStore) -> None:
        """Know nothing until the first read.

        Args:
            store: the cache.
        """
        self._store = store
        self.status: Following | None = None

    def freshness(self, model: str) -> Freshness | None:
        """How far a model's states are behind; None: no worker follows the model."""
        status = self.status
        if status is None or model not in status.behind:
            return None
        is_complete = status.backlog == 0 and status.behind[model] == 0
        return Freshness(status.lag_s, status.backlog, is_complete)

    async def run(self, interval_s: float) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self.read()
            except Exception:  # outermost handler: the task must not end while the service runs
                log.exception("the status of the workers cannot be read")
            await asyncio.sleep(interval_s)

    async def read(self) -> None:
        """Read once; a status that cannot be read counts as none."""
        try:
            self.status = following(await self._store.read_follow_statuses())
        except AbsorbError:
            self.status = None


class FollowCollector(Collector):
    """The status as metrics, made at each scrape."""

    def __init__(self, follow: FollowReader, clock: Callable[[], float]) -> None:
        self._follow, self._clock = follow, clock

    def collect(self) -> Iterator[Metric]:
        """The last status; without a worker, 0 for `absorb_follow_running` and no samples of the others."""
        status = self._follow.status
        yield GaugeMetricFamily(
            "absorb_follow_running",
            "Number of workers that fold events into states.",
            0.0 if status is None else status.num_workers,
        )
        lag = GaugeMetricFamily(
            "absorb_follow_lag_seconds",
            "Seconds from the arrival of an event until its states were written: last batch of the slowest worker.",
        )
        waiting = GaugeMetricFamily(
            "absorb_follow_waiting_events", "Accepted events that are not in states yet."
        )
        behind = GaugeMetricFamily(
            "absorb_follow_behind_users",
            "Users whose records are still brought up to date with their events.",
            labels=["model"],
        )
        age = GaugeMetricFamily(
            "absorb_follow_status_age_seconds",
            "Seconds since the workers that run wrote their status, of the one whose status is oldest.",
        )
        if status is not None:
            lag.add_metric([], status.lag_s)
            age.add_metric([], self._clock() - status.at_s)
            if status.backlog is not None:
                waiting.add_metric([], status.backlog)
            for model, users in status.behind.items():
                behind.add_metric([model], users)
        yield from (lag, waiting, behind, age)
