"""The cache stops, hangs or is not there yet: scored all the same, said, counted, and cured by itself."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from models.contract.embedded_cache import start_server, stop_server
from models.contract.errors import CacheUnavailableError
from service.store.redis import RedisStore
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
TOY = Toy()
# What this process remembers would hide that the cache is down: tests/service/state/test_lookup.py looks at that.
FORGETFUL: dict[str, Any] = {"host_cache_bytes": 0}
CANDIDATES = ["i1", "i5"]
COLD = pytest.approx(TOY.scores(TOY.state([]), CANDIDATES), abs=1e-6)
WARM = pytest.approx(TOY.scores(TOY.state(HISTORIES["ann"]), CANDIDATES, RECENT["ann"]), abs=1e-6)


@pytest.fixture
def mortal(own_cache: Path, tmp_path: Path) -> World:
    """A world whose cache may be stopped."""
    return World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")


async def test_a_stopped_cache_is_scored_around_and_comes_back(mortal: World, own_cache: Path):
    mortal.publish(TOY)
    async with mortal.service(**FORGETFUL) as service:
        warm = await service.score(candidates=CANDIDATES)
        await asyncio.to_thread(stop_server, own_cache)
        down = [await service.score(candidates=CANDIDATES) for _ in range(5)]
        await service.follower.poll()
        ready = await service.ready()
        user = await service.client.get("/v1/users/ann")
        await asyncio.to_thread(start_server, own_cache)
        again = await service.score(candidates=CANDIDATES)
        counted = service.metric("absorb_cache_results_total", model="toy", result="unavailable")
        polls = service.metric("absorb_poll_failures_total")
    assert warm["scores"] == again["scores"] == WARM
    assert again["state"]["source"] == "hit"
    for answer in down:
        assert answer["state"] == {"source": "unavailable", "tier": "redis", "as_of_s": None}
        assert answer["degraded"]
        assert str(own_cache) in answer["degraded_reason"]
        assert answer["scores"] == COLD
    assert (counted, polls, ready.status_code) == (5, 1, 200)
    assert (user.status_code, user.headers["retry-after"]) == (503, "1")


async def test_a_restart_under_requests_fails_none_of_them(mortal: World, own_cache: Path):
    mortal.publish(TOY)
    answers = []
    done = False
    async with mortal.service(**FORGETFUL, poll_interval_s=0.01) as service:

        async def ask() -> None:
            while not done:
                answers.append(await service.score(candidates=CANDIDATES))

        async with service.app.router.lifespan_context(service.app):
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.to_thread(stop_server, own_cache)
            await until_source(service, "unavailable")
            await asyncio.to_thread(start_server, own_cache)
            await until_source(service, "hit")
            done = True
            await asyncio.gather(*asking)
    sources = {answer["state"]["source"] for answer in answers}
    assert sources == {"hit", "unavailable"}
    for answer in answers:
        assert answer["scores"] == (WARM if answer["state"]["source"] == "hit" else COLD)


async def until_source(service: Running, source: str) -> None:
    while (await service.score(candidates=CANDIDATES))["state"]["source"] != source:
        await asyncio.sleep(0.01)


async def test_a_cache_that_hangs_is_not_waited_for(mortal: World, own_cache: Path):
    mortal.publish(TOY)
    pid = int((own_cache / "valkey.pid").read_text())
    async with mortal.service(**FORGETFUL, cache_timeout_ms=20) as service:
        await until_source(service, "hit")
        os.kill(pid, signal.SIGSTOP)
        try:
            asked = (service.score(candidates=CANDIDATES) for _ in range(30))
            hung = await asyncio.gather(*asked)
        finally:
            os.kill(pid, signal.SIGCONT)
        await until_source(service, "hit")
        warm = await service.score(candidates=CANDIDATES)
    for answer in hung:
        assert answer["state"]["source"] == "unavailable"
        assert "no answer in 20 ms" in answer["degraded_reason"]
        assert answer["scores"] == COLD
    assert warm["scores"] == WARM


async def test_a_late_answer_is_never_given_to_the_next_user(mortal: World, own_cache: Path):
    mortal.publish(TOY)
    pid = int((own_cache / "valkey.pid").read_text())
    async with mortal.service(**FORGETFUL, cache_timeout_ms=20) as service:
        await until_source(service, "hit")
        os.kill(pid, signal.SIGSTOP)
        try:
            await service.score("ann", CANDIDATES)
        finally:
            os.kill(pid, signal.SIGCONT)
        bobs = [await service.score("bob", CANDIDATES) for _ in range(10)]
    bob = TOY.scores(TOY.state(HISTORIES["bob"]), CANDIDATES, RECENT["bob"])
    for answer in bobs:
        assert answer["state"]["source"] in {"hit", "unavailable"}
        if answer["state"]["source"] == "hit":
            assert answer["scores"] == pytest.approx(bob, abs=1e-6)


async def test_down_at_start_is_live_then_ready_once_it_is_back(mortal: World, own_cache: Path):
    mortal.publish(TOY)
    await asyncio.to_thread(stop_server, own_cache)
    async with mortal.service(**FORGETFUL) as service:
        live = await service.client.get("/health/live")
        ready = await service.ready()
        refused = await service.client.post("/v1/score", json={"user_id": 1, "candidates": [1]})
        await asyncio.to_thread(start_server, own_cache)
        await service.follower.poll()
        back = await service.ready()
        answer = await service.score(candidates=CANDIDATES)
    assert (live.status_code, ready.status_code, refused.status_code) == (200, 503, 503)
    assert str(own_cache) in ready.json()["error"]
    assert (back.status_code, answer["state"]["source"]) == (200, "hit")


async def test_a_wrong_password_is_an_unavailable_cache_that_names_no_password(mortal: World):
    store = RedisStore(mortal.url.replace("unix://", "unix://:wrong@"), 2.0)
    with mortal.redis as client:
        client.ping()
        client.config_set("requirepass", "right")
        try:
            with pytest.raises(CacheUnavailableError) as caught:
                await store.read("key")
        finally:
            client.config_set("requirepass", "")
            await store.close()
    assert "wrong" not in str(caught.value)
    assert "invalid" in str(caught.value)
