"""POST, GET and DELETE /v1/items on a real cache: new items are scored by their fields."""

import json
from typing import Any

import pytest

from models.contract.prototypes import Prototypes
from models.live.new_items import MAX_NEW_ITEMS, NEW_ITEMS_KEY, NewItem, put_items
from service.http.item_schemas import NewItemList, NewItemsAnswer
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
FIELDS = {"kind": ["bread", "milk"], "maker": ["x", "y"]}
TOY = Toy(prototypes=Prototypes(FIELDS, [(2, 2), (3, 3), (2, 0), (0, 3)]))
ANN = TOY.state(HISTORIES["ann"])
NEW = {
    "n1": {"kind": "bread", "maker": "x"},
    "n2": {"kind": "milk", "maker": "z"},
    "n3": {"kind": "wine", "maker": "y"},
}
"""n2 shares nothing that a combination has alone."""
SLATE = ["i1", "n1", "n2", "n3", "nope"]


def body(items: dict[str, dict[str, Any]] = NEW) -> dict[str, Any]:
    return {"items": [{"item_id": item, "fields": fields} for item, fields in items.items()]}


async def post(service: Running, sent: Any = None) -> Any:
    response = await service.client.post("/v1/items", json=body() if sent is None else sent)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_new_item_is_scored_by_its_fields(world: World):
    world.publish(TOY)
    async with world.service() as service:
        before = await service.score(candidates=SLATE)
        said = await post(service)
        after = await service.score(candidates=SLATE)
        counted = service.metric("absorb_new_candidates_total", model="toy")
        registered = service.metric("absorb_new_items")

    assert before["scores"] == pytest.approx(TOY.scores(ANN, SLATE, RECENT["ann"]), abs=1e-6)
    assert (before["unknown_candidates"], before["new_items"]) == (SLATE[1:], [])
    expected = TOY.scores(ANN, SLATE, RECENT["ann"], new=NEW)
    assert after["scores"] == pytest.approx(expected, abs=1e-6)
    assert (after["unknown_candidates"], after["new_items"]) == (["n2", "nope"], ["n1", "n3"])
    assert before["scores"][1] != pytest.approx(after["scores"][1], abs=1e-3)
    assert (counted, registered) == (2, 3)
    NewItemsAnswer.model_validate(said)
    assert said["items"][0] == {
        "item_id": "n1",
        "models": {"toy": {"scored": "new", "matched": ["kind", "maker"], "unknown_fields": {}}},
    }
    assert said["items"][1]["models"]["toy"] == {
        "scored": "unknown",
        "matched": [],
        "unknown_fields": {"maker": "z"},
    }
    assert said["items"][2]["models"]["toy"] == {
        "scored": "new",
        "matched": ["maker"],
        "unknown_fields": {"kind": "wine"},
    }


async def test_every_way_to_write_a_body_knows_new_items(world: World):
    world.publish(TOY)
    plain = json.dumps({"user_id": "ann", "candidates": SLATE, "recent": ["n1", "i2"]})
    escaped = plain.replace("n1", r"\u006e1")  # the C reader leaves this one to pydantic
    async with world.service() as service:
        await post(service)
        answers = [await service.client.post("/v1/score", content=one) for one in (plain, escaped)]
    expected = TOY.scores(ANN, SLATE, ["n1", "i2"], new=NEW)
    for answer in answers:
        assert answer.json()["scores"] == pytest.approx(expected, abs=1e-6)
        assert answer.json()["new_items"] == ["n1", "n3"]


async def test_pieces_and_rankings_name_new_items(world: World):
    world.publish(TOY)
    slate = [f"i{n % 30}" for n in range(300)] + ["n1", "nope"]
    async with world.service(num_threads=1) as service:
        await post(service)
        answer = await service.score(candidates=slate, top_k=3)
        sent = {"user_id": "ann", "candidates": slate}
        compared = (await service.client.post("/v1/compare", json=sent)).json()["models"][0]
    assert (answer["new_items"], answer["unknown_candidates"]) == (["n1"], ["nope"])
    assert (compared["new_items"], compared["unknown_candidates"]) == (["n1"], ["nope"])


async def test_every_process_knows_an_item_at_its_next_poll_and_after_a_restart(world: World):
    world.publish(TOY)
    async with world.service() as one, world.service() as other:
        await post(one)
        assert (await other.score(candidates=SLATE))["new_items"] == []
        await other.follower.poll()
        assert (await other.score(candidates=SLATE))["new_items"] == ["n1", "n3"]
        response = await other.client.delete("/v1/items/n1")
        assert response.status_code == 204
        assert (await other.score(candidates=SLATE))["new_items"] == ["n3"]
        await one.follower.poll()
        assert (await one.score(candidates=SLATE))["new_items"] == ["n3"]
    async with world.service() as restarted:
        assert (await restarted.score(candidates=SLATE))["new_items"] == ["n3"]


async def test_the_next_generation_knows_new_items_from_its_first_request(world: World):
    world.publish(TOY)
    newer = Toy(seed=1, prototypes=Prototypes(FIELDS, [(3, 0)]))
    async with world.service() as service:
        await post(service)
        world.publish(newer)
        await service.follower.poll()
        answer = await service.score(candidates=SLATE)
    state = newer.state(HISTORIES["ann"])
    expected = newer.scores(state, SLATE, RECENT["ann"], new=NEW)
    assert answer["scores"] == pytest.approx(expected, abs=1e-6)
    assert answer["new_items"] == ["n2"]


async def test_an_item_that_the_build_knows_is_scored_as_the_build_knows_it(world: World):
    world.publish(TOY)
    async with world.service() as service:
        said = await post(service, body({"i5": {"kind": "bread"}}))
        answer = await service.score(candidates=["i5"])
    assert said["items"][0]["models"]["toy"]["scored"] == "known"
    assert answer["scores"] == pytest.approx(TOY.scores(ANN, ["i5"], RECENT["ann"]), abs=1e-6)
    assert answer["new_items"] == []


async def test_models_take_the_fields_that_they_have(world: World):
    world.publish(TOY)
    world.publish(Toy(seed=1, prototypes=Prototypes({"hue": ["red"]}, [(2,)])), "other")
    world.publish(Toy(seed=2), "bare")
    async with world.service(default_model="toy") as service:
        said = await post(service, body({"n1": {"maker": "y", "hue": "red"}}))
        found = {
            model: (await service.score(candidates=["n1"], model=model))["new_items"]
            for model in ("toy", "other", "bare")
        }
    models = said["items"][0]["models"]
    assert {name: one["matched"] for name, one in models.items()} == {
        "toy": ["maker"],
        "other": ["hue"],
        "bare": [],
    }
    assert found == {"toy": ["n1"], "other": ["n1"], "bare": []}


async def test_items_are_listed_and_fields_replaced(world: World):
    world.publish(TOY)
    async with world.service() as service:
        first = await post(service)
        second = await post(service, body({"n1": {"maker": "y"}}))
        listed = (await service.client.get("/v1/items")).json()
    NewItemList.model_validate(listed)
    assert first["version"] < second["version"] == listed["version"]
    assert {one["item_id"]: one["fields"] for one in listed["items"]} == {
        **NEW,
        "n1": {"maker": "y"},
    }


WRONG = {
    "no list": ({"items": {}}, "items: got {}, expected a list of 1 to 1000 objects"),
    "none": ({"items": []}, "items: got 0 of them"),
    "too many": (body({f"n{n}": {"kind": "x"} for n in range(1001)}), "items: got 1001 of them"),
    "twice": ({"items": body()["items"][:1] * 2}, "items[1].item_id: got 'n1', expected each item once"),
    "another key": ({"items": [{"item_id": "n", "fields": {"kind": "x"}, "at": 1}]}, "items[0]: got "),
    "no id": ({"items": [{"item_id": "", "fields": {"kind": "x"}}]}, "items[0].item_id: got ''"),
    "no fields": (body({"n": {}}), "items[0].fields: got no value, expected at least one"),
    "only nulls": (body({"n": {"kind": None}}), "items[0].fields: got no value"),
    "a wrong field": (body({"n": {"makr": "x"}}), "items[0].fields: got 'makr', expected a field among: kind, maker; "),
    "a list as value": (body({"n": {"kind": ["x"]}}), "items[0].fields.kind: got ['x']"),
    "a long value": (body({"n": {"kind": "x" * 257}}), "items[0].fields.kind: got "),
    "a huge number": (body({"n": {"kind": 10**4000}}), "items[0].fields.kind: got "),
    "a list": (body({"n": {"kind": [True]}}), "items[0].fields.kind: got [True]"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "text"), WRONG.values(), ids=WRONG)
async def test_a_wrong_body_is_refused_and_changes_nothing(world: World, sent: Any, text: str):
    world.publish(TOY)
    async with world.service() as service:
        response = await service.client.post("/v1/items", json=sent)
    assert response.status_code == 400, response.text
    assert response.json()["error"].startswith(text)
    with world.redis as client:
        assert not client.exists(NEW_ITEMS_KEY)


async def test_before_the_first_publish_the_answer_says_that_no_model_serves(world: World):
    async with world.service() as service:
        response = await service.client.post("/v1/items", json=body())
    assert response.status_code == 400
    assert "none does yet: publish one first" in response.text


async def test_there_is_a_most(world: World):
    world.publish(TOY)
    with world.redis as client:
        put_items(
            client, [NewItem(f"m{n}", {"kind": "bread"}, 0) for n in range(MAX_NEW_ITEMS - 1)]
        )
    async with world.service() as service:
        refused = await service.client.post("/v1/items", json=body())
        await post(service, body({"n1": {"kind": "bread"}}))
        await post(service, body({"n1": {"kind": "milk"}}))  # is there already
        again = await service.client.post("/v1/items", json=body({"n2": {"kind": "milk"}}))
    assert refused.status_code == again.status_code == 400
    assert "got 20,002 with those that are registered, expected at most 20,000" in refused.text
    with world.redis as client:
        assert client.hlen(NEW_ITEMS_KEY) == MAX_NEW_ITEMS + 1


async def test_an_item_that_is_not_registered_cannot_be_removed(world: World):
    world.publish(TOY)
    async with world.service() as service:
        response = await service.client.delete("/v1/items/n1")
    assert response.status_code == 404
    assert "expected a registered new item" in response.text


async def test_without_an_administrators_key_nothing_changes(world: World):
    world.publish(TOY)
    async with world.service(host="0.0.0.0", allow_open=True) as service:
        statuses = [
            (await service.client.post("/v1/items", json=body())).status_code,
            (await service.client.get("/v1/items")).status_code,
            (await service.client.delete("/v1/items/n1")).status_code,
        ]
    assert statuses == [403, 403, 403]


async def test_entries_that_cannot_be_read_are_left_out_and_counted(world: World):
    world.publish(TOY)
    with world.redis as client:
        put_items(client, [NewItem("n1", NEW["n1"], 0)])
        for name, raw in {
            "bad": b"{",
            "\x00": b"{}",
            "list": b"[]",
            "no": b'{"fields": {}, "at_s": 1}',
        }.items():
            client.hset(NEW_ITEMS_KEY, name, raw)
        client.hset(NEW_ITEMS_KEY, b"\xff", NewItem("x", {"kind": "bread"}, 0).to_bytes())
    async with world.service() as service:
        answer = await service.score(candidates=SLATE)
        unreadable = service.metric("absorb_new_items_unreadable")
    assert answer["new_items"] == ["n1"]
    assert unreadable == 5


@pytest.mark.parametrize("fault", ["a string", "too long"])
async def test_a_registry_that_cannot_be_read_keeps_the_items_that_were(world: World, fault: str):
    world.publish(TOY)
    async with world.service() as service:
        await post(service)
        with world.redis as client:
            if fault == "a string":
                client.set(NEW_ITEMS_KEY, b"7")
            else:
                client.hset(
                    NEW_ITEMS_KEY, mapping={f"m{n}": b"{}" for n in range(2 * MAX_NEW_ITEMS)}
                )
                client.hset(NEW_ITEMS_KEY, "", 9_999_999_999)
        await service.follower.poll()
        answer = await service.score(candidates=SLATE)
        failures = service.metric("absorb_new_item_failures_total")
    assert answer["new_items"] == ["n1", "n3"]
    assert failures == 1


async def test_a_cache_that_lost_its_memory_has_no_new_items(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await post(service)
        with world.redis as client:
            client.delete(NEW_ITEMS_KEY)
        await service.follower.poll()
        assert (await service.score(candidates=SLATE))["new_items"] == []
        with world.redis as client:
            put_items(client, [NewItem("n3", NEW["n3"], 0)])
        await service.follower.poll()
        assert (await service.score(candidates=SLATE))["new_items"] == ["n3"]


async def test_a_record_may_name_a_prototype_as_a_recent_item(world: World):
    generation = world.publish(TOY)
    artifact_id = generation.artifact_id
    async with world.service() as service:
        first = service.selection.serving["toy"].artifact.vocabulary.first_prototype
        world.put(generation.key("zoe"), _record("zoe", first + 1, artifact_id))
        user = (await service.client.get("/v1/users/zoe")).json()
        answer = await service.score("zoe")
    assert user["recent"][-1] is None
    assert not answer["degraded"]


def _record(user: str, row: int, artifact_id: str) -> bytes:
    import numpy as np

    from models.contract.record import UserRecord, encode_record
    from tests.service.toy import AS_OF_S

    record = UserRecord(user, AS_OF_S, np.array([3, 4, row], np.int32), TOY.state(["i1"]))
    return encode_record(record, TOY.spec, artifact_id, "fp32")
