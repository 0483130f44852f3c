"""`/v1/compare` when something fails: damaged records, a cache that is down, models that do not load or score."""

import asyncio
import logging
import math
from pathlib import Path

import pytest

from models.contract.embedded_cache import stop_server
from models.contract.generation import pointer_key
from tests.service.http.test_requests import GOOD, error_of
from tests.service.scoring.compared import (
    ALPHA,
    BETA,
    CANDIDATES,
    GAMMA,
    KNOWN,
    NAMES,
    compare,
    post,
    publish_three,
)
from tests.service.toy import AS_OF_S, listed_score_graph
from tests.service.world import World

pytestmark = pytest.mark.anyio


async def test_damaged_and_missing_records_are_reported_in_the_models_entry(world: World):
    publish_three(world)
    async with world.service() as service:
        beta, gamma = (service.selection.pick(name).generation for name in ("beta", "gamma"))
        world.put(beta.key("ann"), b"no record")
        with world.redis as client:
            client.delete(gamma.key("ann"))
        answer = await compare(service)
        alone = [await service.score(candidates=CANDIDATES, model=name) for name in NAMES]
    assert [one["state"]["source"] for one in answer["models"]] == ["hit", "corrupt", "miss"]
    assert answer["models"][0]["state"]["as_of_s"] == AS_OF_S
    assert [one["degraded"] for one in answer["models"]] == [False, True, True]
    for compared, scored in zip(answer["models"], alone, strict=True):
        assert compared["scores"] == scored["scores"]
        assert compared["degraded_reason"] == scored["degraded_reason"]
    assert len(answer["agreement"]) == 3


async def test_a_cache_that_is_down_degrades_every_entry(own_cache: Path, tmp_path: Path):
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    publish_three(world)
    async with world.service() as service:
        await asyncio.to_thread(stop_server, own_cache)
        answer = await compare(service)
    for one in answer["models"]:
        assert one["state"] == {"source": "unavailable", "tier": "redis", "as_of_s": None}
        assert str(own_cache) in one["degraded_reason"]


async def test_a_model_that_does_not_load_leaves_the_others_answering(
    world: World, caplog: pytest.LogCaptureFixture
):
    world.publish(ALPHA, "alpha")
    world.publish(BETA, "beta", score=b"no graph")
    world.publish(GAMMA, "gamma")
    async with world.service() as service:
        answer = await compare(service, models=NAMES)
        ready = await compare(service)
        lenient = await compare(service, models=NAMES, context={"of_beta_perhaps": 1})
        only_beta = await post(service, models=["beta"])
        score = {**GOOD, "model": "beta"}
        refused_by_score = await service.client.post("/v1/score", json=score)
        failures = {"model": "beta", "error": "NotReadyError"}
        counted = service.metric("absorb_compare_failures_total", **failures)
    alpha, beta, gamma = answer["models"]
    assert beta.pop("model") == "beta"
    assert beta.pop("error") == error_of(refused_by_score)
    assert set(beta.values()) == {None}
    assert alpha["error"] is gamma["error"] is None
    assert [pair["models"] for pair in answer["agreement"]] == [["alpha", "gamma"]]
    assert [one["model"] for one in ready["models"]] == ["alpha", "gamma"]
    assert lenient["models"][0]["ignored_context"] == ["of_beta_perhaps"]
    assert only_beta.status_code == refused_by_score.status_code == 503
    assert error_of(only_beta) == error_of(refused_by_score)
    assert only_beta.headers["retry-after"] == "1"
    assert counted == 2
    (line, _) = (one for one in caplog.records if one.message == "model failed in a comparison")
    assert (line.levelno, line.__dict__["model"]) == (logging.WARNING, "beta")


FAILING = {
    "a score that is not finite": ([0, 0, *[math.nan] * KNOWN], "not finite", False),
    "an unexpected exception": ([0, 0], "the graph failed, as the log says,", True),
}


@pytest.mark.parametrize(("logits", "text", "is_logged"), FAILING.values(), ids=FAILING)
async def test_a_model_that_fails_while_it_scores_leaves_the_others_answering(
    world: World, caplog: pytest.LogCaptureFixture, logits: list[float], text: str, is_logged: bool
):
    world.publish(ALPHA, "alpha", score=listed_score_graph(logits))
    world.publish(BETA, "beta")
    async with world.service() as service:
        answer = await compare(service)
        only_alpha = await post(service, models=["alpha"])
        counted = service.metric(
            "absorb_compare_failures_total", model="alpha", error="BrokenModelError"
        )
        in_flight = service.metric("absorb_in_flight")
    alpha, beta = answer["models"]
    assert text in alpha["error"]
    assert alpha["ranked"] is None
    assert (beta["error"], len(beta["ranked"])) == (None, 10)
    assert answer["agreement"] == []
    assert only_alpha.status_code == 500
    assert text in error_of(only_alpha)
    assert (counted, in_flight) == (1, 0)
    (line,) = (one for one in caplog.records if one.message == "model failed in a comparison")
    assert line.__dict__["error"] == alpha["error"]
    details = [one.__dict__["error"] for one in caplog.records if "graph failed" in one.message]
    assert bool(details) == is_logged
    assert all("out of data bounds" in text for text in details)


async def test_a_pointer_that_breaks_leaves_the_old_generation_in_its_entry(world: World):
    publish_three(world)
    async with world.service() as service:
        old = service.selection.pick("beta").generation.name
        world.put(pointer_key("beta"), b"{")
        await service.follower.poll()
        answer = await compare(service, models=NAMES)
    assert answer["models"][1]["generation"] == old
    assert [one["error"] for one in answer["models"]] == [None] * 3


async def test_nothing_published_is_503(world: World):
    async with world.service() as service:
        every = await post(service)
        named = await post(service, models=["alpha"])
    for response in (every, named):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
    assert "no generation of any model is published yet" in error_of(every)
