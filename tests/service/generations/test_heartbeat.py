"""What a service announces in the cache about its loaded generations, so that a rolling publish waits for it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from builder.publish.cache import connect_cache
from builder.publish.services import announcements
from models.contract.announcement import SERVICES_KEY, heartbeat_key
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation
from service.generations.follower import Follower
from service.generations.heartbeat import Heartbeat
from service.generations.new_items import NewItemMetrics, NewItemRegistry
from service.generations.room import Room
from service.generations.selection import Selection
from service.generations.serving import Loader, Serving
from service.observability.metrics import Telemetry
from service.runtime.scorer import Scorer
from service.store.redis import RedisStore
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def loading_forever(world: World, ttl_s: int) -> AsyncIterator[None]:
    """A follower and its heartbeat, while the follower warms up a generation that it never finishes."""
    is_loading = asyncio.Event()

    async def warm_up(_: Serving) -> None:
        is_loading.set()
        await asyncio.Event().wait()

    def on_swap(old: Serving | None, new: Serving | None) -> None:
        raise AssertionError(f"{new} serves instead of {old}, though its warm-up never ended")

    store, selection = RedisStore(world.url, 2.0), Selection(None)
    heartbeat = Heartbeat(store, selection, ttl_s)
    loader, telemetry = (
        Loader(
            world.artifacts,
            lambda _, artifact: Scorer(artifact, 1),
            Room(world.artifacts, 8, 1 << 30),
        ),
        Telemetry(CollectorRegistry()),
    )
    new_items = NewItemRegistry(store, selection, NewItemMetrics(telemetry.registry), time.time)
    follower = Follower(store, selection, heartbeat, loader, telemetry, on_swap, warm_up, new_items)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(follower.run(0.01)), tasks.create_task(heartbeat.run())]
        await is_loading.wait()
        yield
        for task in running:
            task.cancel()
    follower.close()
    await store.close()


def announcement_ends_ms(world: World) -> int:
    """Epoch millisecond at which the cache drops the only announcement."""
    with world.redis as cache:
        (service,) = cast(set[bytes], cache.smembers(SERVICES_KEY))
        return cast(int, cache.pexpiretime(heartbeat_key(service.decode())))


async def test_the_announcement_is_renewed_while_a_generation_loads(world: World):
    world.publish(Toy())
    async with loading_forever(world, ttl_s=1):
        first_ends_ms = announcement_ends_ms(world)
        while announcement_ends_ms(world) == first_ends_ms:
            await asyncio.sleep(0.01)
        with connect_cache(world.url) as cache:
            (announced,) = announcements(cache).values()
    assert announced.loaded == {"toy": None}
    assert announced.why_not("toy", "g") == "has loaded no generation of it yet"


async def test_a_pointer_moved_during_the_first_announcement_is_followed_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    announce = RedisStore.announce
    moved_to: list[Generation] = []

    async def announce_after_a_publish(self: RedisStore, *announcement: Any) -> None:
        if not moved_to:
            moved_to.append(world.publish(Toy(seed=1)))
        await announce(self, *announcement)

    monkeypatch.setattr(RedisStore, "announce", announce_after_a_publish)
    async with world.service() as service:
        assert service.selection.pick("toy").generation == moved_to[0]
        assert service.metric("absorb_swaps_total", model="toy") == 1


async def test_a_service_without_write_permission_logs_it_once_and_serves(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def refuse(*_: Any) -> None:
        raise CacheUnavailableError("cache", "NOPERM")

    world.publish(Toy())
    monkeypatch.setattr(RedisStore, "announce", refuse)
    with caplog.at_level(logging.WARNING, "service.generations"):
        async with world.service() as service:
            await service.follower.poll()
            await service.score()
    messages = [line.message for line in caplog.records]
    assert messages == ["cannot announce the loaded generations"]
