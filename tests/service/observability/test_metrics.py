"""Metrics add up, name generations and stages, and have no label from a client."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.service.toy import AS_OF_S, Toy
from tests.service.world import HISTORIES, Running, World

pytestmark = pytest.mark.anyio
TOY = Toy()
SOURCES = ("hit", "miss", "stale", "corrupt", "unavailable")


async def scrape(service: Running) -> dict[str, list[Sample]]:
    response = await service.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {family.name: family.samples for family in families}


async def test_results_add_up_to_lookups_and_requests_to_answers(world: World):
    generation = world.publish(TOY)
    world.put(generation.key("bob"), b"no record")
    users = ["ann", "bob", "carl", "ann", "dora"]
    async with world.service() as service:
        bodies = [{"user_id": user, "candidates": ["i1", "nope"]} for user in users]
        await asyncio.gather(*(service.client.post("/v1/score", json=body) for body in bodies))
        for bad in ({}, {"user_id": "ann", "candidates": []}):
            assert (await service.client.post("/v1/score", json=bad)).status_code == 400
        await service.client.get("/nowhere")
        found = await scrape(service)
    results = {
        s.labels["result"]: s.value for s in found["absorb_cache_results"] if "total" in s.name
    }
    lookups = sum(s.value for s in found["absorb_cache_lookups"] if s.name.endswith("_total"))
    assert results == {"hit": 2, "corrupt": 1, "miss": 2}
    assert sum(results.values()) == lookups == len(users)
    answers = {
        (s.labels["route"], s.labels["code"]): s.value
        for s in found["absorb_requests"]
        if s.name.endswith("_total")
    }
    assert answers == {
        ("/v1/score", "200"): len(users),
        ("/v1/score", "400"): 2,
        ("unmatched", "404"): 1,
    }
    (unknown,) = (s for s in found["absorb_unknown_candidates"] if s.name.endswith("_total"))
    assert unknown.value == len(users)
    (in_flight,) = found["absorb_in_flight"]
    assert in_flight.value == 0


async def test_metrics_name_the_generation_and_every_stage(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        await service.score()
        found = await scrape(service)
    (info,) = found["absorb_generation_info"]
    expected_labels = {
        "generation": generation.name,
        "artifact_id": generation.artifact_id,
        "model": "toy",
    }
    assert (info.labels, info.value) == (expected_labels, 1)
    assert found["absorb_generation_as_of_timestamp_seconds"][0].value == AS_OF_S
    assert found["absorb_generation_users"][0].value == len(HISTORIES)
    stages = {s.labels["stage"] for s in found["absorb_stage_duration_seconds"]}
    assert stages == {"parse", "cache", "queue", "decode", "compute", "encode"}


async def test_no_label_holds_text_from_a_client(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await service.score("very-secret-user")
        await service.client.get("/v1/users/very-secret-user")
        await service.client.get("/very-secret-path")
        body = {"user_id": "x", "candidates": ["i1"], "model": "very-secret-model"}
        await service.client.post("/v1/score", json=body)
        text = (await service.client.get("/metrics")).text
    assert "very-secret" not in text
    assert 'route="/v1/users/{user_id:path}"' in text


async def test_an_unexpected_error_is_a_logged_500(world: World, caplog: pytest.LogCaptureFixture):
    world.publish(TOY)
    async with world.service() as service:
        service.workers.shutdown()
        body = {"user_id": "ann", "candidates": ["i1"]}
        response = await service.client.post("/v1/score", json=body)
        broken = await service.ready()
        labels = {"route": "/v1/score", "method": "POST", "model": "toy", "code": "500"}
        counted = service.metric("absorb_requests_total", **labels)
    assert (response.status_code, broken.status_code) == (500, 503)
    assert response.json() == {"error": "internal error; the log says more"}
    assert counted == 1
    assert "cannot schedule new futures" in caplog.text
