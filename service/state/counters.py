"""Lookups and results of each tier, for the metrics and for `GET /v1/cache`."""

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
"""How a lookup in a tier ended. A record that is too old to be fresh is stale, wherever it lies."""

Outcome = Literal["loaded", "present", "absent", "failed", "dropped"]
"""What became of a prefetched user: read and kept, kept already, not in the cache, not readable, no room."""

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
        """All of them, whatever their result."""
        return sum(self.results[tier].values())


class TierCounts:
    """What each tier was asked and answered, in all and for each generation that serves.

    Attributes:
        total: since the process started.
        by_serving: of those that serve now.
        num_joined: requests that waited for another's read.
        num_hinted: users that were to be prefetched.
        outcomes: what became of them; those not yet in it are queued or being read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.total = Tally()
        self.by_serving: dict[Serving, Tally] = {}
        self.num_joined = 0
        self.num_hinted = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        lookups = Counter(
            "absorb_cache_tier_lookups", "Users looked up in a tier to be scored.", ["tier"],
            registry=registry,
        )  # fmt: skip
        results = Counter(
            "absorb_cache_tier_results",
            "Lookups by result; they add up to absorb_cache_tier_lookups_total.",
            ["tier", "result"], registry=registry,
        )  # fmt: skip
        # Found once: finding a metric by its labels costs more than the lookup that it counts.
        self._lookups = {tier: lookups.labels(tier) for tier in TIERS}
        self._results = {
            (tier, result): results.labels(tier, result) for tier in TIERS for result in RESULTS
        }
        self._joined = Counter(
            "absorb_cache_joined_reads", "Requests that waited for another's read of the same user.",
            registry=registry,
        )  # fmt: skip
        self._prefetched = Counter(
            "absorb_prefetched_users", "Users that were to be prefetched, by what became of them.",
            ["outcome"], registry=registry,
        )  # fmt: skip

    def looked_up(self, serving: Serving, tier: Tier, result: Result) -> None:
        """Count one lookup and its result, together."""
        self._lookups[tier].inc()
        self._results[tier, result].inc()
        self.total.results[tier][result] += 1
        tally = self.by_serving.get(serving)
        if tally is not None:
            tally.results[tier][result] += 1

    def joined(self) -> None:
        """Count a request that waits for another's read."""
        self.num_joined += 1
        self._joined.inc()

    def hinted(self, num_users: int) -> None:
        """Count users that are to be prefetched."""
        self.num_hinted += num_users

    def followed(self, outcome: Outcome, num_users: int) -> None:
        """Count what became of some of them."""
        self.outcomes[outcome] += num_users
        self._prefetched.labels(outcome).inc(num_users)


class HostCollector(Collector):
    """How full the host tier is, read when somebody asks: keeping gauges would cost every lookup."""

    def __init__(self, host: HostTier) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """What the tier's own counts say now."""
        host = self._host
        yield GaugeMetricFamily(
            "absorb_cache_host_bytes", "What the host tier's entries weigh.", host.num_bytes
        )
        yield GaugeMetricFamily(
            "absorb_cache_host_limit_bytes", "What they may weigh at most.", host.limit_bytes
        )
        yield GaugeMetricFamily(
            "absorb_cache_host_users", "Records in the host tier.", host.users.num_entries
        )
        yield CounterMetricFamily(
            "absorb_cache_host_evictions", "Entries that made room for others.", host.evictions
        )
