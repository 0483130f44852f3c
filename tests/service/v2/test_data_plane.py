"""The data plane without a transport: requests of a transport, and their answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.contract.errors import (
    AbsorbError,
    CacheUnavailableError,
    RequestError,
    UnknownModelError,
)
from service.errors import NotReadyError, UnknownVersionError
from service.query import Query, Scores
from service.scoring.pipeline import Pipeline
from service.v2.data_plane import DataPlane
from service.v2.messages import InferRequest, InferTensor, RequestedOutput
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
VERSION = str(AS_OF_S + 60)
SLATE = ["i1", "i5", "no such"]


def texts(name: str, *values: str, shape: Sequence[int] | None = None) -> InferTensor:
    return InferTensor(name, "BYTES", tuple(shape or (len(values),)), list(values))


def asked(*more: InferTensor, user: str = "ann", **fields: Any) -> InferRequest:
    inputs = (texts("user_id", user), texts("candidates", *SLATE), *more)
    return InferRequest("toy", **{"inputs": inputs, **fields})


def published(running: Running) -> str:
    return running.selection.serving["toy"].generation.name


async def test_scores_are_those_of_the_first_protocol(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        first = await running.score("ann", SLATE, recent=["i2"], context={"hour": "day"})
        answer = await running.dependencies.data_plane.infer(
            asked(texts("recent", "i2"), texts("hour", "day"), id="7")
        )
        generation = published(running)
    outputs = {one.name: one for one in answer.outputs}
    assert (answer.model, answer.version, answer.id) == ("toy", VERSION, "7")
    assert answer.parameters == {"degraded": False, "unknown_context": '{"device": [null]}'}
    assert np.array_equal(outputs["scores"].data, np.array(first["scores"], np.float32))
    assert list(outputs["unknown"].data) == [False, False, True]
    assert outputs["state_source"].data == ["hit"]
    assert outputs["generation"].data == [generation]


async def test_an_unknown_user_is_degraded(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        answer = await running.dependencies.data_plane.infer(
            asked(user="nobody", outputs=(RequestedOutput("state_source"),))
        )
    assert [one.data for one in answer.outputs] == [["miss"]]
    assert answer.parameters["degraded"] is True


async def test_several_users_are_as_many_requests(world: World) -> None:
    world.publish(Toy())
    slates = ["i1", "i5", "i9", "i2", "i2", "i4"]
    async with world.service() as running:
        expected = [
            (await running.score(user, slate, recent=recent, context={"hour": hour}))["scores"]
            for user, slate, recent, hour in [
                ("ann", slates[:3], ["i1"], "day"),
                ("bob", slates[3:], ["i2"], "night"),
            ]
        ]
        request = InferRequest(
            "toy",
            (
                texts("user_id", "ann", "bob", shape=(2, 1)),
                texts("candidates", *slates, shape=(2, 3)),
                texts("recent", "i1", "i2", shape=(2, 1)),
                texts("hour", "day", "night"),
            ),
        )
        answer = await running.dependencies.data_plane.infer(request)
    scores = answer.outputs[0]
    assert scores.shape == (2, 3)
    assert np.array_equal(scores.data, np.array(expected, np.float32).ravel())


async def test_ids_may_be_integers(world: World) -> None:
    world.publish(Toy(), states={"7": Toy().state(["i1"])})
    numbers = InferTensor("candidates", "INT64", (2,), np.array([1, 2], np.int64))
    user = InferTensor("user_id", "INT32", (1,), np.array([7], np.int32))
    async with world.service() as running:
        answer = await running.dependencies.data_plane.infer(InferRequest("toy", (user, numbers)))
    outputs = {one.name: one.data for one in answer.outputs}
    assert outputs["state_source"] == ["hit"]
    assert list(outputs["unknown"]) == [True, True]


BAD = {
    "no candidates": ((texts("user_id", "ann"),), "an input 'candidates'"),
    "an input twice": ((*asked().inputs, texts("user_id", "ann")), "each name once"),
    "a name": ((*asked().inputs, texts("hours", "day")), "did you mean 'hour'"),
    "an empty slate": ((texts("user_id", "ann"), texts("candidates")), "1 to 5000 item ids"),
    "an empty id": ((texts("user_id", ""), texts("candidates", "i1")), r"inputs\[user_id\]\[0\]"),
    "two users": ((texts("user_id", "ann", "bob"), texts("candidates", "i1")), r"\[2, -1\]"),
    "no user": ((texts("user_id"), texts("candidates", "i1")), "1 to 64 user ids"),
    "a matrix of users": (
        (texts("user_id", "ann", shape=(1, 1, 1)), texts("candidates", "i1")),
        "a value for each user",
    ),
    "numbers that are no ids": (
        (
            texts("user_id", "ann"),
            InferTensor("candidates", "FP32", (1,), np.zeros(1, np.float32)),
        ),
        "BYTES or INT64",
    ),
    "a context that is no text": (
        (*asked().inputs, InferTensor("hour", "BOOL", (1,), np.ones(1, np.bool))),
        "BYTES or INT64",
    ),
}


async def test_wrong_inputs_are_rejected(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        for inputs, expected in BAD.values():
            with pytest.raises(RequestError, match=expected):
                await running.dependencies.data_plane.infer(InferRequest("toy", inputs))
        (statistics,) = running.dependencies.data_plane.statistics("toy")
    assert statistics.durations["fail"].count == len(BAD)


async def test_an_unknown_output_is_rejected(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        with pytest.raises(RequestError, match="did you mean 'scores'"):
            await running.dependencies.data_plane.infer(asked(outputs=(RequestedOutput("score"),)))


async def test_models_and_versions_that_do_not_serve(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        plane = running.dependencies.data_plane
        plane.check_model_ready("toy")
        plane.check_model_ready("toy", VERSION)
        with pytest.raises(UnknownModelError):
            await plane.infer(replace(asked(), model="nosuch"))
        with pytest.raises(UnknownVersionError, match=f"got '1', expected {VERSION}"):
            await plane.infer(replace(asked(), version="1"))
        with pytest.raises(UnknownVersionError):
            plane.metadata("toy", "1")


async def test_metadata_and_config_say_what_a_model_takes(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        about = running.dependencies.data_plane.metadata("toy")
        config: dict[str, Any] = running.dependencies.data_plane.config("toy")
    inputs = {one.name: one for one in about.inputs}
    assert list(inputs) == ["user_id", "candidates", "recent", "hour", "device"]
    assert [one.name for one in about.outputs] == [
        "scores",
        "state_source",
        "unknown",
        "generation",
        "new",
    ]
    assert about.versions == (VERSION,)
    assert config["input"][1] == {
        "name": "candidates",
        "data_type": "TYPE_STRING",
        "dims": [-1],
        "optional": False,
    }
    assert config["output"][0] == {"name": "scores", "data_type": "TYPE_FP32", "dims": [-1]}


async def test_statistics_count_what_was_served(world: World) -> None:
    world.publish(Toy())
    async with world.service(now_s=AS_OF_S + 5) as running:
        for _ in range(3):
            await running.dependencies.data_plane.infer(asked())
        (one,) = running.dependencies.data_plane.statistics()
    assert (one.name, one.version) == ("toy", VERSION)
    assert (one.inference_count, one.execution_count) == (3, 3)
    assert one.last_inference_ms == 1000 * (AS_OF_S + 5)
    assert one.durations["success"].count == one.durations["compute_infer"].count == 3
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    whole = one.durations["success"].ns
    assert sum(one.durations[part].ns for part in parts) == pytest.approx(whole, rel=0.01)
    assert one.durations["cache_hit"].count == 0


async def test_a_model_that_was_unloaded_serves_again_when_loaded(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        plane = running.dependencies.data_plane
        await plane.unload("toy")
        await plane.unload("toy")
        await running.follower.poll()
        with pytest.raises(NotReadyError, match="was unloaded"):
            await plane.infer(asked())
        (entry,) = plane.index()
        assert (entry.state, entry.version) == ("UNAVAILABLE", "")
        assert plane.index(ready_only=True) == []
        assert running.metric("absorb_generation_users", model="toy") == 0
        await plane.load("toy", {})
        (entry,) = plane.index()
        assert (entry.state, entry.version, entry.reason) == ("READY", VERSION, "")
        await plane.infer(asked())


async def test_a_load_that_fails_leaves_what_serves(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        before = published(running)
        world.publish(Toy(seed=1), score=b"no graph")
        with pytest.raises(NotReadyError, match=r"does not load: artifact: .* not an ONNX model"):
            await running.dependencies.data_plane.load("toy", {})
        (entry,) = running.dependencies.data_plane.index()
        assert entry.state == "READY"
        assert "not an ONNX model" in entry.reason
        assert published(running) == before
        world.publish(Toy(seed=2))
        await running.dependencies.data_plane.load("toy", {})
        assert published(running) != before


async def test_a_load_needs_a_published_model_and_no_configuration(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        plane = running.dependencies.data_plane
        for one in (plane.load("nosuch", {}), plane.unload("nosuch")):
            with pytest.raises(UnknownModelError):
                await one
        with pytest.raises(AbsorbError, match="configured by its artifact"):
            await plane.load("toy", {"config": "{}"})


class Flipping(Pipeline):
    """A pipeline under which a new generation begins to serve before bob is scored, some times."""

    def __init__(self, world: World, running: Running, flips: int) -> None:
        self.world, self.running, self.flips = world, running, flips

    async def score(self, query: Query) -> Scores:
        if query.user_id == "bob" and self.flips > 0:
            self.flips -= 1
            new = self.world.publish(Toy())
            self.world.point(replace(new, created_s=new.created_s + self.world.builds))
            await self.running.follower.poll()
        return await self.running.pipeline.score(query)


@pytest.mark.parametrize("flips", [1, 2])
async def test_scores_of_several_users_are_of_one_version(world: World, flips: int) -> None:
    world.publish(Toy())
    users = texts("user_id", "ann", "bob")
    asked = InferRequest("toy", (users, texts("candidates", "i1", "i1", shape=(2, 1))))
    async with world.service() as running:
        parts, pipeline = running.dependencies, Flipping(world, running, flips)
        plane = DataPlane(
            pipeline,
            parts.selection,
            parts.follower,
            parts.readiness,
            parts.parsers,
            parts.settings,
            lambda: AS_OF_S,
            parts.tiers.follow,
        )
        if flips == 1:
            assert (await plane.infer(asked)).outputs[3].data == 2 * [published(running)]
        else:
            with pytest.raises(NotReadyError, match="generations change faster"):
                await plane.infer(asked)


async def test_what_fails_for_one_user_fails_for_all(world: World) -> None:
    world.publish(Toy())
    users = texts("user_id", "ann", "bob")
    slates = texts("candidates", "i1", "i2", "i1", "i2", shape=(2, 2))
    async with world.service(max_candidates=1) as running:
        with pytest.raises(RequestError, match="1 to 1 item ids"):
            await running.dependencies.data_plane.infer(InferRequest("toy", (users, slates)))


async def test_a_load_needs_the_cache(world: World) -> None:
    lost = World("unix:///tmp/nowhere/valkey.sock", world.artifacts)
    async with lost.service() as running:
        with pytest.raises(CacheUnavailableError):
            await running.dependencies.data_plane.load("toy", {})
