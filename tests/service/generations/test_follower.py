"""Following the generation pointers: what is loaded, what is rejected, and what keeps serving."""

import asyncio
import json
import logging

import pytest

from models.contract.artifact import SCORE
from models.contract.generation import MODELS_KEY, Pointer, pointer_key
from tests.service.toy import Toy, bare_score_graph, outside_score_graph
from tests.service.world import HISTORIES, RECENT, World, flipped

pytestmark = pytest.mark.anyio
OLD, NEW = Toy(seed=1), Toy(seed=2)
CANDIDATES = [f"i{n}" for n in range(12)]


def expected(toy: Toy) -> list[float]:
    return toy.scores(toy.state(HISTORIES["ann"]), CANDIDATES, RECENT["ann"])


async def test_a_new_generation_takes_over(world: World, caplog: pytest.LogCaptureFixture):
    old = world.publish(OLD)
    async with world.service() as service:
        before = await service.score(candidates=CANDIDATES)
        new = world.publish(NEW)
        unseen = await service.score(candidates=CANDIDATES)
        with caplog.at_level(logging.INFO, "service.generations.follower"):
            await service.follower.poll()
            await service.follower.poll()
        after = await service.score(candidates=CANDIDATES)
        swaps = service.metric("absorb_swaps_total", model="toy")
        labels = {"model": "toy", "artifact_id": old.artifact_id, "generation": old.name}
        told_old = service.metric("absorb_generation_info", **labels)
    assert [one["generation"] for one in (before, unseen, after)] == [old.name, old.name, new.name]
    assert before["scores"] == unseen["scores"] == pytest.approx(expected(OLD), abs=1e-6)
    assert after["scores"] == pytest.approx(expected(NEW), abs=1e-6)
    assert (swaps, told_old) == (2, 0)
    (line,) = caplog.records
    assert (line.message, line.__dict__["generation"]) == ("generation serves", new.name)


async def test_a_rebuild_without_training_keeps_the_scorer(world: World):
    world.publish(OLD)
    async with world.service() as service:
        before = service.selection.pick("toy")
        rebuilt = world.publish(OLD, states={"ann": OLD.state(["i8"])})
        await service.follower.poll()
        after = service.selection.pick("toy")
        answer = await service.score(candidates=CANDIDATES, recent=[])
    assert after.scorer is before.scorer
    assert answer["generation"] == rebuilt.name
    assert answer["scores"] == pytest.approx(OLD.scores(OLD.state(["i8"]), CANDIDATES), abs=1e-6)


def remove_artifact(world: World, artifact_id: str) -> None:
    (world.artifacts / artifact_id).rename(world.artifacts / "elsewhere")


def remove_graph(world: World, artifact_id: str) -> None:
    (world.artifacts / artifact_id / SCORE).unlink()


def tamper_graph(world: World, artifact_id: str) -> None:
    path = world.artifacts / artifact_id / SCORE
    path.write_bytes(flipped(path.read_bytes(), 100))


def tamper_manifest(world: World, artifact_id: str) -> None:
    path = world.artifacts / artifact_id / "manifest.json"
    path.write_text(path.read_text().replace('"auc": 0.75', '"auc": 0.99'))


def break_manifest(world: World, artifact_id: str) -> None:
    (world.artifacts / artifact_id / "manifest.json").write_text("{")


def break_pointer(world: World, _: str) -> None:
    world.put(pointer_key("toy"), b"{")


def remove_pointer(world: World, _: str) -> None:
    with world.redis as client:
        client.delete(pointer_key("toy"))


def swap_pointer(world: World, _: str) -> None:
    other = world.new_generation("other", NEW.save(world.artifacts))
    world.put(pointer_key("toy"), Pointer(other, None).to_bytes())


def put_numbers_in_pointer(world: World, _: str) -> None:
    pointer = json.loads(world.get(pointer_key("toy")))
    pointer["current"]["artifact_id"] = 5
    world.put(pointer_key("toy"), json.dumps(pointer).encode())


BREAKING = {
    remove_artifact: ("ArtifactMissingError", "manifest.json is missing"),
    remove_graph: ("ArtifactMissingError", "score.onnx is missing"),
    tamper_graph: ("ArtifactTamperedError", "has hash"),
    tamper_manifest: ("ArtifactTamperedError", "has hash"),
    break_manifest: ("ArtifactTamperedError", "has hash"),
    break_pointer: ("GenerationError", "cannot be read"),
    remove_pointer: ("GenerationError", "the key is missing"),
    swap_pointer: ("GenerationError", "it points at model 'other'"),
    put_numbers_in_pointer: ("GenerationError", "artifact_id"),
}


@pytest.mark.parametrize(
    ("breaking", "error"), BREAKING.items(), ids=[f.__name__ for f in BREAKING]
)
async def test_a_generation_that_does_not_load_leaves_the_old_one_serving(
    world: World, caplog: pytest.LogCaptureFixture, breaking, error: tuple[str, str]
):
    old = world.publish(OLD)
    async with world.service() as service:
        new = world.publish(NEW)
        breaking(world, new.artifact_id)
        with caplog.at_level(logging.ERROR, "service.generations.follower"):
            for _ in range(8):
                await service.follower.poll()
        answer = await service.score(candidates=CANDIDATES)
        kind, text = error
        failures = service.metric("absorb_load_failures_total", model="toy", error=kind)
        ready = await service.ready()
        world.publish(Toy(seed=3))
        await service.follower.poll()
        cured = await service.score(candidates=CANDIDATES)
    assert answer["generation"] == old.name
    assert answer["scores"] == pytest.approx(expected(OLD), abs=1e-6)
    (line,) = caplog.records
    assert text in line.__dict__["error"]
    assert failures == 4  # polls 1, 2, 4 and 8: a broken artifact is not hashed every second
    assert line.__dict__["keeps"] == old.name
    assert ready.status_code == 200
    assert cured["scores"] == pytest.approx(expected(Toy(seed=3)), abs=1e-6)


@pytest.mark.parametrize(
    ("graphs", "problem"),
    [
        ({"score": b"no graph"}, "not an ONNX model"),
        ({"score": b""}, "cannot score"),
        ({"score": outside_score_graph()}, "keeps its data outside the model"),
        ({"score": bare_score_graph(float("nan"))}, "not finite"),
        ({"score": OLD.encode_graph()}, "cannot score"),
        ({"encode": OLD.score_graph()}, "cannot score"),
        ({"encode": bare_score_graph()}, "cannot score"),
    ],
)
async def test_a_graph_that_cannot_score_is_never_ready(world: World, graphs, problem: str):
    world.publish(OLD, **graphs)
    async with world.service() as service:
        live = await service.client.get("/health/live")
        ready = await service.ready()
        body = {"user_id": "ann", "candidates": ["i1"], "model": "toy"}
        refused = await service.client.post("/v1/score", json=body)
    assert (live.status_code, live.json()) == (200, {"live": True})
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert problem in ready.json()["error"]
    assert refused.status_code == 503
    assert problem in refused.json()["error"]
    assert ready.headers["retry-after"] == refused.headers["retry-after"] == "1"


async def test_ready_once_a_model_is_published(world: World):
    async with world.service() as service:
        before = await service.ready()
        world.publish(OLD)
        await service.follower.poll()
        after = await service.ready()
    assert before.status_code == 503
    assert (after.status_code, after.json()) == (200, {"ready": True})


async def test_a_broken_model_does_not_block_other_models(world: World):
    world.publish(OLD, "alpha", score=b"no graph")
    world.publish(NEW, "beta")
    async with world.service() as service:
        answer = await service.score(candidates=CANDIDATES)
    assert answer["model"] == "beta"


async def test_an_emptied_cache_leaves_the_model_serving(world: World):
    world.publish(OLD)
    async with world.service() as service:
        with world.redis as client:
            client.flushall()
        await service.follower.poll()
        answer = await service.score(candidates=CANDIDATES)
    assert answer["state"]["source"] == "miss"
    assert answer["scores"] == pytest.approx(OLD.scores(OLD.state([]), CANDIDATES), abs=1e-6)


async def test_a_models_key_of_another_type_leaves_the_model_serving(world: World):
    world.publish(OLD)
    async with world.service() as service:
        world.put(MODELS_KEY, b"no set")
        await service.follower.poll()
        answer = await service.score(candidates=CANDIDATES)
        failures = service.metric("absorb_poll_failures_total")
    assert answer["state"]["source"] == "hit"
    assert failures == 1


async def test_no_answer_mixes_two_generations_during_swaps(world: World):
    toys = {world.publish(OLD).name: OLD}
    answers = []
    done = False
    async with world.service(poll_interval_s=0.01) as service:

        async def ask() -> None:
            while not done:
                answers.append(await service.score(candidates=CANDIDATES))

        async with service.app.router.lifespan_context(service.app):
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            for seed in range(10, 18):
                toy = Toy(seed)
                newest = world.publish(toy).name
                toys[newest] = toy
                while service.selection.pick("toy").generation.name != newest:
                    await asyncio.sleep(0.005)
            done = True
            await asyncio.gather(*asking)
    for answer in answers:
        assert answer["state"]["source"] == "hit"
        assert answer["scores"] == pytest.approx(expected(toys[answer["generation"]]), abs=1e-6)
    assert len({answer["generation"] for answer in answers}) >= 5
