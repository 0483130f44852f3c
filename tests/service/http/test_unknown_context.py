"""Context values that training has not seen are scored as unknown, and said so: /v1, V2, comparisons, metrics."""

from typing import Any

import orjson
import pytest

from service.http.schemas import CompareResponse, ScoreResponse
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
TOY = Toy()
SLATE = ["i1", "i5"]
CASES: dict[str, tuple[dict[str, Any], dict[str, list[str | None]]]] = {
    "all known": ({"hour": "day", "device": "app"}, {}),
    "an unknown value": ({"hour": "noon", "device": "app"}, {"hour": ["noon"]}),
    "an integer": ({"hour": 7, "device": "app"}, {"hour": ["7"]}),
    "a field is missing": ({"hour": "day"}, {"device": [None]}),
    "an empty value": ({"hour": "", "device": "none"}, {"hour": [""], "device": ["none"]}),
    "no context": ({}, {"hour": [None], "device": [None]}),
}


def expected(user: str, context: dict[str, Any]) -> Any:
    scores = TOY.scores(TOY.state(HISTORIES[user]), SLATE, RECENT[user], context)
    return pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize(("context", "unknown"), CASES.values(), ids=CASES)
async def test_v1_lists_unknown_values_by_field(
    world: World, context: dict[str, Any], unknown: dict[str, list[str | None]]
) -> None:
    world.publish(TOY)
    async with world.service() as service:
        answer = await service.score(candidates=SLATE, context=context)
        body = {"user_id": "ann", "candidates": SLATE, "context": context}
        compared = (await service.client.post("/v1/compare", json=body)).json()
        counted = {
            name: service.metric("absorb_unknown_context_total", model="toy", field=name)
            for name in ("hour", "device")
        }
    ScoreResponse.model_validate(answer)
    CompareResponse.model_validate(compared)
    assert answer["unknown_context"] == unknown
    assert compared["models"][0]["unknown_context"] == unknown
    assert answer["scores"] == expected("ann", context)
    assert answer["degraded"] is False
    assert counted == {name: 2 * (name in unknown) for name in ("hour", "device")}


async def test_each_compared_model_lists_the_fields_that_it_has(world: World) -> None:
    world.publish(Toy(), "both")
    world.publish(Toy(context_names=("hour",)), "one")
    body = {"user_id": "ann", "candidates": SLATE, "context": {"hour": "x", "device": "y"}}
    async with world.service() as service:
        models = (await service.client.post("/v1/compare", json=body)).json()["models"]
    assert [model["unknown_context"] for model in models] == [
        {"hour": ["x"], "device": ["y"]},
        {"hour": ["x"]},
    ]


def body_of(users: list[str], **context: list[Any]) -> dict[str, Any]:
    def tensor(name: str, values: list[Any], *shape: int) -> dict[str, Any]:
        datatype = "INT64" if type(values[0]) is int else "BYTES"
        return {"name": name, "shape": shape, "datatype": datatype, "data": values}

    candidates = tensor("candidates", SLATE * len(users), len(users), len(SLATE))
    inputs = [tensor("user_id", users, len(users)), candidates]
    inputs += [tensor(name, values, len(users)) for name, values in context.items()]
    return {"inputs": inputs}


async def infer(service: Running, body: dict[str, Any]) -> dict[str, Any]:
    answer = await service.client.post("/v2/models/toy/infer", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["parameters"])


async def test_v2_lists_the_values_of_all_its_users_each_once(world: World) -> None:
    world.publish(TOY)
    devices = ["app", "app", "app"]
    async with world.service() as service:
        known = await infer(service, body_of(["ann", "bob"], hour=["day"] * 2, device=["web"] * 2))
        some = await infer(
            service, body_of(["ann", "bob", "ann"], hour=["noon", "day", "noon"], device=devices)
        )
        numbers = await infer(service, body_of(["ann", "bob"], hour=[7, 8]))
    assert "unknown_context" not in known
    assert orjson.loads(some["unknown_context"]) == {"hour": ["noon"]}
    assert orjson.loads(numbers["unknown_context"]) == {"hour": ["7", "8"], "device": [None]}
