"""POST /v1/events: what is accepted is in the log and in the stream, what is not is named and leaves nothing."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.live.event import Event
from models.live.keys import EVENT_FIELD, FORGOTTEN_KEY, IN_KEY, TOUCHED_KEY, log_key, tombstone
from models.live.log import read_log
from service.http.event_body import MAX_EVENTS
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
EVENT = {"user_id": "ann", "item_id": "i1", "ts_s": AS_OF_S, "event_id": "e1", "kind": "buy"}
BAD = [
    ({}, ["events: got nothing", "required"]),
    ([], ["body: got []", "an object"]),
    ({"events": []}, ["events: got 0 of them", "a list of 1 to 1000 events"]),
    ({"events": "x"}, ["events: got 'x'", "a list of 1 to 1000 events"]),
    ({"events": [{}] * (MAX_EVENTS + 1)}, ["events: got 1001 of them"]),
    ({"events": [EVENT, 5]}, ["events[1]: got 5", "an object with user_id and item_id"]),
    ({"events": [{"item_id": "i1"}]}, ["events[0].user_id: got nothing", "required"]),
    ({"events": [{"user_id": "ann"}]}, ["events[0].item_id: got nothing", "required"]),
    ({"events": [EVENT], "model": "toy"}, ["body: got 'model'", "only the fields events"]),
    ({**EVENT, "itemid": "i1"}, ["events[0]: got 'itemid'", "did you mean 'item_id'"]),
    ({**EVENT, "user_id": 1.5}, ["events[0].user_id: got 1.5", "a string or an integer"]),
    ({**EVENT, "user_id": "a\nb"}, ["events[0].user_id: got 'a\\nb'", "printable"]),
    ({**EVENT, "item_id": "x" * 129}, ["events[0].item_id", "129 characters"]),
    ({**EVENT, "item_id": True}, ["events[0].item_id: got True"]),
    ({**EVENT, "ts_s": "now"}, ["events[0].ts_s: got 'now'", "an integer, the epoch second"]),
    ({**EVENT, "ts_s": True}, ["events[0].ts_s: got True", "an integer, the epoch second"]),
    ({**EVENT, "ts_s": -1}, ["events[0].ts_s: got -1", "an epoch second"]),
    ({**EVENT, "ts_s": AS_OF_S * 1000}, ["events[0].ts_s", "at most 300 s ahead"]),
    ({**EVENT, "kind": ""}, []),
    ({**EVENT, "kind": "k" * 65}, ["events[0].kind", "1 to 64 printable characters"]),
    ({**EVENT, "kind": 1}, ["events[0].kind: got 1", "a string"]),
    ({**EVENT, "fields": []}, ["events[0].fields: got []", "an object of strings"]),
    ({**EVENT, "fields": {"a": 1}}, ["events[0].fields.a: got 1", "a string"]),
    ({**EVENT, "fields": {str(at): "x" for at in range(33)}}, ["events[0].fields: got 33"]),
    ({**EVENT, "event_id": ""}, ["events[0].event_id: got ''"]),
    ({**EVENT, "event_id": 5}, ["events[0].event_id: got 5", "a string"]),
]  # fmt: skip


@pytest.fixture
async def service(world: World) -> AsyncIterator[Running]:
    with world.redis as client:
        client.flushall()
    world.publish(Toy())
    async with world.service() as service:
        yield service


async def post(service: Running, body: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await service.client.post("/v1/events", json=body, headers=named)


def log_of(world: World, user: str) -> Any:
    with world.redis as client:
        fields: Any = client.hgetall(log_key(user))
        return read_log(fields)


def stream(world: World) -> list[Event]:
    with world.redis as client:
        entries: Any = client.xrange(IN_KEY)
    return [Event.from_bytes(fields[EVENT_FIELD.encode()]) for _, fields in entries]


async def test_an_event_is_in_the_log_and_in_the_stream(service: Running, world: World):
    response = await post(service, EVENT)
    assert response.status_code == 202, response.text
    answer = response.json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 0)
    event = Event("e1", "ann", "i1", AS_OF_S, "buy")
    assert log_of(world, "ann").events == (event,)
    assert stream(world) == [event]
    with world.redis as client:
        entries: Any = client.xrange(IN_KEY)
        assert entries[-1][0].decode() == answer["position"]
        assert client.zscore(TOUCHED_KEY, "ann") is not None
    assert service.metric("absorb_events_total", result="accepted") == 1


async def test_events_of_many_users_keep_the_order_of_the_list(service: Running, world: World):
    body = {"events": [{"user_id": f"u{at % 3}", "item_id": at} for at in range(9)]}
    assert (await post(service, body)).json()["accepted"] == 9
    assert [event.item_id for event in stream(world)] == [str(at) for at in range(9)]
    assert {event.item_id for event in log_of(world, "u1").events} == {"1", "4", "7"}
    assert all(event.ts_s == AS_OF_S for event in stream(world))


async def test_a_request_that_comes_again_counts_once(service: Running, world: World):
    body = {"events": [{"user_id": "ann", "item_id": "i1"}, {"user_id": "ann", "item_id": "i1"}]}
    first = await post(service, body, Idempotency_Key="order 5")
    again = await post(service, body, Idempotency_Key="order 5")
    assert (first.json()["duplicates"], again.json()["duplicates"]) == (0, 2)
    assert len(log_of(world, "ann").events) == 2
    version = log_of(world, "ann").version
    other = await post(service, body, Idempotency_Key="order 6")
    without = await post(service, body)
    assert other.json()["duplicates"] == without.json()["duplicates"] == 0
    assert len(log_of(world, "ann").events) == 6
    assert log_of(world, "ann").version >= version + 4


@pytest.mark.parametrize("key", ["", "k" * 101, "a\tb"])
async def test_a_wrong_idempotency_key_is_refused(service: Running, key: str):
    response = await post(service, EVENT, Idempotency_Key=key)
    assert response.status_code == 400
    assert "idempotency-key: got" in response.json()["error"]


@pytest.mark.parametrize(("body", "parts"), BAD)
async def test_a_wrong_body_is_named_and_writes_nothing(
    service: Running, world: World, body: Any, parts: list[str]
):
    response = await post(service, body)
    assert response.status_code == (400 if parts else 202)
    for part in parts:
        assert part in response.json()["error"]
    with world.redis as client:
        assert client.exists(IN_KEY) == (not parts)


async def test_one_wrong_event_of_a_list_keeps_all_out(service: Running, world: World):
    response = await post(service, {"events": [EVENT, {**EVENT, "ts_s": -1}]})
    assert response.status_code == 400
    assert stream(world) == []


async def test_a_forgotten_user_is_gone(service: Running, world: World):
    with world.redis as client:
        client.hset(FORGOTTEN_KEY, tombstone("ann"), "1")
    response = await post(service, {"events": [{**EVENT, "user_id": "bob"}, EVENT]})
    assert response.status_code == 410
    assert "events[1].user_id" in response.json()["error"]
    assert "ann" not in response.json()["error"]
    assert stream(world) == []
    assert service.metric("absorb_events_total", result="refused") == 2


async def test_a_full_stream_is_back_pressure(world: World):
    with world.redis as client:
        client.flushall()
    async with world.service(max_events_waiting=2) as service:
        two = {"events": [{"user_id": "ann", "item_id": "i1"}] * 2}
        assert (await post(service, two)).status_code == 202
        response = await post(service, EVENT)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "5"
        assert "2 events wait" in response.json()["error"]
        assert len(stream(world)) == 2


async def test_a_cache_that_is_full_is_an_error_that_may_be_tried_again(
    service: Running, world: World
):
    with world.redis as client:
        client.config_set("maxmemory", 1)
        try:
            response = await post(service, EVENT)
        finally:
            client.config_set("maxmemory", 0)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert (await post(service, EVENT)).status_code == 202


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(["user_id", "item_id", "ts_s", "kind", "fields", "event_id", "events"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        JSON,
        st.dictionaries(NAMES, JSON),
        st.dictionaries(NAMES, JSON).map(lambda one: {"events": [one]}),
    )
)
async def test_no_body_is_an_error_of_the_service(service: Running, body: Any):
    response = await service.client.post("/v1/events", content=json.dumps(body))
    assert response.status_code in (202, 400), response.text
    assert response.status_code == 202 or response.json().keys() == {"error"}
