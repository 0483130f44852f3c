"""What a service says of itself in the cache, so that a publish in place waits for it."""

import asyncio
import logging
from typing import Any

import pytest

from builder.publish.cache import connect_cache
from builder.publish.services import loaded_by_service
from models.contract.errors import CacheUnavailableError
from models.contract.record import Generation
from service.generations.follower import Serving
from service.store.redis import RedisStore
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio


async def test_a_service_is_alive_while_it_loads_for_longer_than_its_word_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.generations.follower.PRESENT_S", 1)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def load_slowly(_: Serving) -> None:
        begun.set()
        await may_end.wait()

    async with world.service(poll_interval_s=0.01) as service:
        service.follower.warm_up = load_slowly
        world.publish(Toy())
        async with service.app.router.lifespan_context(service.app):
            await begun.wait()
            said: list[dict[str, str | None]] = []
            for wait_s in (0, 1.5):
                await asyncio.sleep(wait_s)
                with connect_cache(world.url) as cache:
                    said += loaded_by_service(cache).values()
            may_end.set()
    assert said == [{"toy": None}] * 2


async def test_what_is_published_while_a_service_says_that_it_is_there_is_what_it_loads(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    announce = RedisStore.announce
    flips: list[Generation] = []

    async def say_late(self: RedisStore, *said: Any) -> None:
        if not flips:
            flips.append(world.publish(Toy(seed=1)))
        await announce(self, *said)

    monkeypatch.setattr(RedisStore, "announce", say_late)
    async with world.service() as service:
        assert service.follower.pick("toy").generation == flips[0]
        assert service.metric("absorb_swaps_total", model="toy") == 1


async def test_a_service_that_may_not_write_says_so_once_and_serves(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def refuse(*_: Any) -> None:
        raise CacheUnavailableError("cache", "NOPERM")

    world.publish(Toy())
    monkeypatch.setattr(RedisStore, "announce", refuse)
    with caplog.at_level(logging.WARNING, "service.generations.follower"):
        async with world.service() as service:
            await service.follower.poll()
            await service.score()
    assert [line.message for line in caplog.records] == ["cannot say what is loaded"]
