"""POST /v1/score: every field of the answer, against the toy's arithmetic."""

import numpy as np
import pytest

from models.contract.state_spec import RecordDtype
from service.http.schemas import ModelList, ScoreResponse, UserResponse
from service.runtime.engines.choose import ENGINES
from tests.service.toy import AS_OF_S, SPEC, Toy, bare_score_graph
from tests.service.world import HISTORIES, RECENT, World

pytestmark = pytest.mark.anyio
TOY = Toy()
ANN = TOY.state(HISTORIES["ann"])
CONTEXTS: list[dict[str, object]] = [
    {},
    {"hour": "night"},
    {"hour": "day", "device": "app"},
    {"hour": 25},
]


async def test_every_field_of_the_answer(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        answer = await service.score(candidates=["i5", "i1", "nope"])
    ScoreResponse.model_validate(answer)
    timings = answer.pop("timings_ms")
    assert list(timings) == ["cache", "queue", "decode", "score", "total"]
    stages = [took for stage, took in timings.items() if stage != "total"]
    assert timings["total"] == pytest.approx(sum(stages), abs=0.01)
    assert all(took >= 0 for took in stages)
    expected = TOY.scores(ANN, ["i5", "i1", "nope"], RECENT["ann"])
    assert answer.pop("scores") == pytest.approx(expected, abs=1e-6)
    assert answer == {
        "model": "toy",
        "generation": generation.name,
        "artifact_id": generation.artifact_id,
        "user_id": "ann",
        "state": {"source": "hit", "tier": "redis", "as_of_s": AS_OF_S},
        "freshness": None,
        "degraded": False,
        "degraded_reason": None,
        "ranked": None,
        "unknown_candidates": ["nope"],
        "new_items": [],
        "unknown_candidate_fields": {},
        "unknown_context": {"hour": [None], "device": [None]},
    }


async def test_server_timing_says_what_the_body_says(world: World):
    world.publish(TOY)
    async with world.service() as service:
        body = {"user_id": "ann", "candidates": ["i1"]}
        response = await service.client.post("/v1/score", json=body)
    timings = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {stage: float(took) for stage, took in timings.items()} == response.json()["timings_ms"]


async def test_scores_are_in_request_order_and_top_k_sorts_them(world: World):
    world.publish(TOY)
    candidates = [f"i{n}" for n in range(30)]
    async with world.service() as service:
        scores = (await service.score(candidates=candidates))["scores"]
        reversed_scores = (await service.score(candidates=candidates[::-1]))["scores"]
        best = await service.score(candidates=candidates, top_k=7)
        everything = await service.score(candidates=candidates, top_k=1000)
    assert reversed_scores == pytest.approx(scores[::-1], abs=1e-6)
    ranking = sorted(zip(candidates, scores, strict=True), key=lambda pair: -pair[1])
    assert best["scores"] is None
    assert [one["item"] for one in best["ranked"]] == [item for item, _ in ranking[:7]]
    assert [one["score"] for one in best["ranked"]] == pytest.approx([s for _, s in ranking[:7]])
    assert [one["item"] for one in everything["ranked"]] == [item for item, _ in ranking]


async def test_ties_are_broken_by_request_order(world: World):
    world.publish(TOY)
    async with world.service() as service:
        answer = await service.score(candidates=["x9", "x1", "i1", "x5", "i1"], top_k=5)
    items = [one["item"] for one in answer["ranked"]]
    assert [item for item in items if item != "i1"] == ["x9", "x1", "x5"]
    assert abs(items.index("i1") - (len(items) - 1 - items[::-1].index("i1"))) == 1


async def test_an_unknown_user_is_scored_from_the_encoding_of_nothing(world: World):
    world.publish(TOY)
    async with world.service() as service:
        answer = await service.score("carl", ["i1", "i2"])
    assert answer["state"] == {"source": "miss", "tier": "redis", "as_of_s": None}
    assert answer["degraded"]
    assert "not in the cache" in answer["degraded_reason"]
    expected = TOY.scores(TOY.state([]), ["i1", "i2"])
    assert answer["scores"] == pytest.approx(expected, abs=1e-6)


async def test_recent_replaces_what_the_record_holds(world: World):
    world.publish(TOY)
    many = ["i8", "i7", "i6", "i5"]
    async with world.service() as service:
        given = await service.score(recent=["i7"])
        none = await service.score(recent=[])
        latest = await service.score(recent=many)
        without_record = await service.score("carl", recent=["i7"])
    candidates = ["i1", "i5"]
    assert given["scores"] == pytest.approx(TOY.scores(ANN, candidates, ["i7"]), abs=1e-6)
    assert none["scores"] == pytest.approx(TOY.scores(ANN, candidates), abs=1e-6)
    assert latest["scores"] == pytest.approx(TOY.scores(ANN, candidates, many[1:]), abs=1e-6)
    expected = TOY.scores(TOY.state([]), candidates, ["i7"])
    assert without_record["scores"] == pytest.approx(expected, abs=1e-6)


async def test_null_recent_is_none_given(world: World):
    world.publish(TOY)
    async with world.service() as service:
        answer = await service.score(recent=None)
    expected = TOY.scores(ANN, ["i1", "i5"], RECENT["ann"])
    assert answer["scores"] == pytest.approx(expected, abs=1e-6)


async def test_context_changes_the_score_and_absent_fields_are_unknown(world: World):
    world.publish(TOY)
    async with world.service() as service:
        for context in CONTEXTS:
            answer = await service.score(context=context)
            expected = TOY.scores(ANN, ["i1", "i5"], RECENT["ann"], context)
            assert answer["scores"] == pytest.approx(expected, abs=1e-6)


async def test_integers_are_ids_too(world: World):
    world.publish(TOY, states={"7": TOY.state(["i3"])})
    async with world.service() as service:
        body = {"user_id": 7, "candidates": [1, "i1"]}
        answer = (await service.client.post("/v1/score", json=body)).json()
    assert (answer["user_id"], answer["state"]["source"]) == ("7", "hit")
    assert answer["unknown_candidates"] == ["1"]


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("fp16", 1e-3), ("int8", 2e-2)])
async def test_every_record_dtype_is_scored(world: World, dtype: RecordDtype, tolerance: float):
    world.publish(TOY, dtype=dtype)
    async with world.service() as service:
        answer = await service.score()
    expected = TOY.scores(ANN, ["i1", "i5"], RECENT["ann"])
    assert answer["state"]["source"] == "hit"
    assert answer["scores"] == pytest.approx(expected, abs=tolerance)


async def test_inputs_that_the_graph_does_not_declare_are_not_fed(world: World):
    world.publish(TOY, score=bare_score_graph(0.1))
    async with world.service() as service:
        answer = await service.score(candidates=["i0", "i8"])
    rows = np.array([2, 10])
    assert answer["scores"] == pytest.approx(1 / (1 + np.exp(-0.1 * rows)), abs=1e-6)


async def test_models_are_served_side_by_side(world: World):
    other = Toy(seed=5)
    world.publish(TOY, "alpha")
    world.publish(other, "beta", states={"ann": other.state(["i8"])})
    async with world.service() as service:
        first = await service.score()
        named = await service.score(model="beta")
        world.publish(TOY, "lrea")
        await service.follower.poll()
        preferred = await service.score()
        listed = (await service.client.get("/v1/models")).json()["models"]
    async with world.service(default_model="beta") as service:
        chosen = await service.score()
    assert [first["model"], named["model"], preferred["model"]] == ["alpha", "beta", "lrea"]
    expected = other.scores(other.state(["i8"]), ["i1", "i5"], RECENT["ann"])
    assert named["scores"] == pytest.approx(expected, abs=1e-6)
    assert chosen["scores"] == named["scores"]
    assert [(one["name"], one["default"]) for one in listed] == [
        ("alpha", False),
        ("beta", False),
        ("lrea", True),
    ]


async def test_models_are_described(world: World):
    generation = world.publish(TOY)
    async with world.service() as service:
        answer = (await service.client.get("/v1/models")).json()
    (model,) = ModelList.model_validate(answer).models
    assert (model.name, model.default, model.generation) == ("toy", True, generation.name)
    assert (model.num_users, model.as_of_s, model.record_dtype) == (3, AS_OF_S, "fp32")
    assert [(one.name, tuple(one.shape)) for one in model.state] == [
        (s.name, s.shape) for s in SPEC
    ]
    assert model.record_bytes == len(world.get(generation.key("ann"))) - len("ann") + 4
    assert (model.engine.name, model.engine.device) == ("onnxruntime", "cpu")
    assert model.engine.reason.startswith("native: ")
    assert list(model.engine.refused) == list(ENGINES)
    assert (model.item_fields, model.user_fields) == (["item"], ["age"])
    assert model.context_fields == ["hour", "device"]
    assert model.report == {"test": {"auc": 0.75, "targets": 1200}, "seed": 0}


@pytest.mark.parametrize("user", sorted(HISTORIES))
async def test_users_are_described(world: World, user: str):
    generation = world.publish(TOY)
    async with world.service() as service:
        path = f"/v1/users/{user.replace('/', '%2F')}"
        response = await service.client.get(path, params={"model": "toy"})
    found = UserResponse.model_validate(response.json())
    assert (found.user_id, found.model, found.generation) == (user, "toy", generation.name)
    assert (found.as_of_s, found.recent, found.problem) == (AS_OF_S, RECENT[user], None)
    assert found.num_bytes == len(world.get(generation.key(user)))
    norms = {one.name: one.norm for one in found.tensors}
    state = TOY.state(HISTORIES[user])
    expected = {name: float(np.linalg.norm(tensor)) for name, tensor in state.items()}
    assert norms == pytest.approx(expected)


async def test_an_unknown_user_is_404(world: World):
    world.publish(TOY)
    async with world.service() as service:
        response = await service.client.get("/v1/users/carl")
    assert response.status_code == 404
    assert response.json() == {
        "error": "user_id: got 'carl', expected a user of model 'toy', "
        f"generation {service.selection.pick(None).generation.name}"
    }
