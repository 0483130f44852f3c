"""Counts lookups and results of each tier, for the metrics and for `GET /v1/cache`."""

from collections.abc import Iterator
from typing import Literal, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.generations.serving import Serving
from service.query import Tier
from service.state.device_tier import DeviceTier
from service.state.local_cache import HostTier

Result = Literal["hit", "miss", "stale", "corrupt", "error"]
"""How a lookup in a tier ended. A record older than `stale_after_s` is stale in either tier."""

Outcome = Literal["loaded", "present", "absent", "failed", "dropped"]
"""What became of a prefetched user: stored, already stored, without a record, unreadable, no room."""

TIERS: tuple[Tier, ...] = get_args(Tier)
RESULTS: tuple[Result, ...] = get_args(Result)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Tally:
    """Lookups by result."""

    def __init__(self) -> None:
        self.results: dict[Tier, dict[Result, int]] = {
            tier: dict.fromkeys(RESULTS, 0) for tier in TIERS
        }

    def lookups(self, tier: Tier) -> int:
        """Number of lookups with any result."""
        return sum(self.results[tier].values())


class TierCounts:
    """Lookups per tier and result, in total and per serving generation. Plain numbers: metrics read them at a scrape.

    Attributes:
        total: lookups since the process started.
        by_serving: lookups per generation that serves now.
        num_joined: requests that shared another request's read of the cache.
        num_hinted: users that clients asked to prefetch.
        outcomes: outcome -> number of prefetched users; users in no outcome are queued or being read.
    """

    def __init__(self) -> None:
        self.total = Tally()
        self.by_serving: dict[Serving, Tally] = {}
        self.num_joined = 0
        self.num_hinted = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)

    def hinted(self, num_users: int) -> None:
        """Count users that a client asked to prefetch."""
        self.num_hinted += num_users

    def followed(self, outcome: Outcome, num_users: int) -> None:
        """Count users with this outcome."""
        self.outcomes[outcome] += num_users


class TierCollector(Collector):
    """The counts as metrics, made at each scrape: counters would cost time in every lookup."""

    def __init__(self, counts: TierCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """The current counts."""
        counts = self._counts
        lookups = CounterMetricFamily(
            "absorb_cache_tier_lookups", "User lookups in a tier for scoring.", labels=["tier"]
        )
        results = CounterMetricFamily(
            "absorb_cache_tier_results",
            "Lookups by result; they add up to absorb_cache_tier_lookups_total.",
            labels=["tier", "result"],
        )
        for tier, by_result in counts.total.results.items():
            # One copy for both metrics, so that a lookup between them cannot part them.
            copied = dict(by_result)
            lookups.add_metric([tier], sum(copied.values()))
            for result, number in copied.items():
                results.add_metric([tier, result], number)
        yield lookups
        yield results
        yield CounterMetricFamily(
            "absorb_cache_joined_reads",
            "Requests that shared another request's read of the same user.",
            counts.num_joined,
        )
        prefetched = CounterMetricFamily(
            "absorb_prefetched_users", "Users to prefetch, by outcome.", labels=["outcome"]
        )
        for outcome, number in counts.outcomes.items():
            prefetched.add_metric([outcome], number)
        yield prefetched


class DeviceCollector(Collector):
    """Size of the device tier, and how copies to it ended, read at each scrape."""

    def __init__(self, device: DeviceTier) -> None:
        self._device = device

    def collect(self) -> Iterator[Metric]:
        """The current sizes and counts."""
        device = self._device
        yield GaugeMetricFamily(
            "absorb_cache_device_bytes",
            "Size of the slots of the device tier that hold a state.",
            device.users.num_bytes,
        )
        yield GaugeMetricFamily(
            "absorb_cache_device_limit_bytes",
            "Largest size of the slots of the device tier.",
            device.limit_bytes,
        )
        yield GaugeMetricFamily(
            "absorb_cache_device_users", "States in the device tier.", device.users.num_entries
        )
        yield CounterMetricFamily(
            "absorb_cache_device_evictions",
            "States removed from the device tier to make room.",
            device.users.evictions,
        )
        copies = CounterMetricFamily(
            "absorb_cache_device_copies",
            "Copies of states to the device, by outcome.",
            labels=["outcome"],
        )
        for outcome, number in device.outcomes.items():
            copies.add_metric([outcome], number)
        yield copies


class HostCollector(Collector):
    """Size of the host tier, read at each scrape: gauges would cost time in every lookup."""

    def __init__(self, host: HostTier) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """The current sizes."""
        host = self._host
        yield GaugeMetricFamily(
            "absorb_cache_host_bytes", "Size of all entries in the host tier.", host.num_bytes
        )
        yield GaugeMetricFamily(
            "absorb_cache_host_limit_bytes",
            "Largest size of all entries in the host tier.",
            host.limit_bytes,
        )
        yield GaugeMetricFamily(
            "absorb_cache_host_users", "Records in the host tier.", host.users.num_entries
        )
        yield CounterMetricFamily(
            "absorb_cache_host_evictions",
            "Entries removed from the host tier to make room.",
            host.evictions,
        )
