"""Makes the tiers, their metrics, the lookup through them and the prefetcher."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.runtime.workers import Workers
from service.settings import Settings
from service.state.changes import ChangeCollector, ChangeReader
from service.state.counters import DeviceCollector, HostCollector, TierCollector, TierCounts
from service.state.device_tier import DeviceTier
from service.state.follow import FollowCollector, FollowReader
from service.state.local_cache import HostTier
from service.state.lookup import TieredStates
from service.state.open_reads import OpenReads
from service.state.prefetch import Prefetcher
from service.store.changes import ChangeFeed
from service.store.redis import StateStore


@dataclass(frozen=True)
class Tiers:
    """Everything between a request and the cache.

    Attributes:
        store: the cache.
        device: states in the memory of a GPU.
        host: decoded records in the memory of this process.
        counts: lookups and results per tier.
        states: looks up a user in the device tier, the host tier, then the cache.
        changes: drops users whose records have changed; `run` is a background task.
        follow: reads how far the workers are; `run` is a background task.
        prefetcher: reads hinted users into the host tier.
    """

    store: StateStore
    device: DeviceTier
    host: HostTier
    counts: TierCounts
    states: TieredStates
    changes: ChangeReader
    follow: FollowReader
    prefetcher: Prefetcher

    async def close(self) -> None:
        """Stop the background tasks and close the connections."""
        self.prefetcher.close()
        self.states.close()
        self.device.shutdown()
        await self.changes.close()
        await self.store.close()


def build_tiers(
    settings: Settings,
    store: StateStore,
    registry: CollectorRegistry,
    workers: Workers,
    clock: Callable[[], float],
    is_overloaded: Callable[[], bool],
) -> Tiers:
    """Make the tiers.

    Args:
        settings: sizes and ages of the tiers.
        store: the cache behind the host tier.
        registry: registry of the metrics.
        workers: threads that decode large records.
        clock: returns the epoch second; a record's age is measured with it.
        is_overloaded: whether requests wait for a permit; hinted users are not read then.
    """
    host = HostTier(
        settings.host_cache_bytes,
        settings.host_cache_ttl_s,
        settings.host_cache_absent_ttl_s,
        time.monotonic,
    )
    registry.register(HostCollector(host))
    device = DeviceTier(
        settings.device_cache_bytes,
        lambda serving: serving.scorer.state_memory,
        time.monotonic,
    )
    registry.register(DeviceCollector(device))
    counts = TierCounts()
    registry.register(TierCollector(counts))
    reads = OpenReads()
    states = TieredStates(
        store, device, host, reads, counts, workers, settings.stale_after_s, clock
    )
    changes = ChangeReader(ChangeFeed(store.connect, store.name), states)
    registry.register(ChangeCollector(changes))
    follow = FollowReader(store)
    registry.register(FollowCollector(follow, clock))
    prefetcher = Prefetcher(store, host, reads, counts, is_overloaded)
    return Tiers(store, device, host, counts, states, changes, follow, prefetcher)
