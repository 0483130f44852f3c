"""The tiers' parts, made from the settings and joined."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.runtime.workers import Workers
from service.settings import Settings
from service.state.counters import HostCollector, TierCounts
from service.state.local_cache import HostTier
from service.state.lookup import TieredStates
from service.state.prefetch import Prefetcher
from service.store.redis import StateStore


@dataclass(frozen=True)
class Tiers:
    """The cache, the host tier before it, who reads through both, who fills the latter, and what they count."""

    store: StateStore
    host: HostTier
    counts: TierCounts
    states: TieredStates
    prefetcher: Prefetcher

    async def close(self) -> None:
        """Stop what runs in the background, and let go of every connection."""
        self.prefetcher.close()
        self.states.close()
        await self.store.close()


def build_tiers(
    settings: Settings,
    store: StateStore,
    registry: CollectorRegistry,
    workers: Workers,
    clock: Callable[[], float],
) -> Tiers:
    """Make the tiers.

    Args:
        settings: the limits are read from here.
        store: the cache behind the host tier.
        registry: of the metrics.
        workers: threads in which large records are decoded.
        clock: gives the epoch second, to tell stale records.
    """
    host = HostTier(
        settings.host_cache_bytes,
        settings.host_cache_ttl_s,
        settings.host_cache_absent_ttl_s,
        time.monotonic,
    )
    registry.register(HostCollector(host))
    counts = TierCounts(registry)
    states = TieredStates(store, host, counts, workers, settings.stale_after_s, clock)
    return Tiers(store, host, counts, states, Prefetcher(store, host, counts))
