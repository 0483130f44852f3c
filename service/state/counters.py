"""Counts lookups and results of each tier, for the metrics and for `GET /v1/cache`."""

from collections.abc import Iterator
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.generations.serving import Serving
from service.query import Tier
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
    """Lookups per tier and result, in total and per serving generation.

    Attributes:
        total: lookups since the process started.
        by_serving: lookups per generation that serves now.
        num_joined: requests that shared another request's read of the cache.
        num_hinted: users that clients asked to prefetch.
        outcomes: outcome -> number of prefetched users; users in no outcome are queued or being read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.total = Tally()
        self.by_serving: dict[Serving, Tally] = {}
        self.num_joined = 0
        self.num_hinted = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        lookups = Counter(
            "absorb_cache_tier_lookups",
            "User lookups in a tier for scoring.",
            ["tier"],
            registry=registry,
        )
        results = Counter(
            "absorb_cache_tier_results",
            "Lookups by result; they add up to absorb_cache_tier_lookups_total.",
            ["tier", "result"],
            registry=registry,
        )
        # Children are kept: finding one by its labels costs more than a lookup in the host tier.
        self._lookups = {tier: lookups.labels(tier) for tier in TIERS}
        self._results = {
            (tier, result): results.labels(tier, result) for tier in TIERS for result in RESULTS
        }
        self._joined = Counter(
            "absorb_cache_joined_reads",
            "Requests that shared another request's read of the same user.",
            registry=registry,
        )
        self._prefetched = Counter(
            "absorb_prefetched_users",
            "Users to prefetch, by outcome.",
            ["outcome"],
            registry=registry,
        )

    def looked_up(self, serving: Serving, tier: Tier, result: Result) -> None:
        """Count one lookup and its result."""
        self._lookups[tier].inc()
        self._results[tier, result].inc()
        self.total.results[tier][result] += 1
        tally = self.by_serving.get(serving)
        if tally is not None:
            tally.results[tier][result] += 1

    def joined(self) -> None:
        """Count a request that shares another request's read."""
        self.num_joined += 1
        self._joined.inc()

    def hinted(self, num_users: int) -> None:
        """Count users that a client asked to prefetch."""
        self.num_hinted += num_users

    def followed(self, outcome: Outcome, num_users: int) -> None:
        """Count users with this outcome."""
        self.outcomes[outcome] += num_users
        self._prefetched.labels(outcome).inc(num_users)


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
