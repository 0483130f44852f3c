"""Bodies of POST /v1/events and POST /v1/items: accepted whole and kept as sent, or refused with the field's name.

The draws are the same in every run; `make fuzz` draws others, and more.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.prototypes import Prototypes
from models.live.event import Event
from models.live.keys import EVENT_FIELD, IN_KEY, log_key
from models.live.new_items import MAX_AT_ONCE, NEW_ITEMS_KEY, NewItem
from service.http.event_body import MAX_EVENTS
from tests.fuzzing import Send, check_refusal, drawn, serving
from tests.hostile_events import EVENT, ITEM, ITEM_FIELDS, Body, bodies, texts
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import World

TOY = Toy(prototypes=Prototypes(ITEM_FIELDS, [(2, 2), (3, 3), (2, 0), (0, 3)]))
EVENTS, ITEMS = "/v1/events", "/v1/items"
JSON = {"content-type": "application/json"}
NAMED = re.compile(r"^(events|items|body|idempotency-key)\b")
"""How an error begins that names its field; what is no JSON is the body's error."""
MAX_MESSAGE = 2000


@pytest.fixture(scope="module")
def send(module_world: World) -> Iterator[Send]:
    with serving(module_world, TOY) as send:
        yield send


def is_accepted(response: httpx.Response) -> bool:
    """Whether the request succeeded; a refusal names the field that was wrong, in few words."""
    check_refusal(response)
    if response.status_code < 300:
        return True
    message = response.json()["error"]
    assert response.status_code == 400, response.text[:300]
    assert NAMED.search(message), message[:300]
    assert len(message) < MAX_MESSAGE
    return False


@given(body=bodies(EVENT, "events", MAX_EVENTS), key=st.none() | texts)
@drawn(200)
def test_events_are_kept_as_sent_or_refused_by_field(
    send: Send, module_world: World, body: Body, key: str | None
):
    raw, sent = body
    own = {} if key is None else {"idempotency-key": key.encode("utf-8", "surrogatepass")}
    with module_world.redis as client:
        client.delete(IN_KEY)
        response = send("POST", EVENTS, raw, {**JSON, **own})
        entries: Any = client.xrange(IN_KEY)
        kept = [Event.from_bytes(entry[EVENT_FIELD.encode()]) for _, entry in entries]
        if not is_accepted(response):
            assert kept == []  # all or nothing
            return
        assert response.json()["accepted"] == len(kept) >= 1
        for event in kept:
            event.check(float(AS_OF_S))
            assert client.hexists(log_key(event.user_id), event.event_id)
    if sent is not None:
        several = sent.get("events", [sent])
        wanted = [(str(one["user_id"]), str(one["item_id"])) for one in several]
        assert [(event.user_id, event.item_id) for event in kept] == wanted


@given(body=bodies(ITEM, "items", MAX_AT_ONCE))
@drawn(200)
def test_items_are_registered_as_sent_or_refused_by_field(
    send: Send, module_world: World, body: Body
):
    raw, sent = body
    with module_world.redis as client:
        client.delete(NEW_ITEMS_KEY)
        response = send("POST", ITEMS, raw, JSON)
        found: Any = client.hgetall(NEW_ITEMS_KEY)
    found.pop(b"", None)
    kept = [NewItem.from_bytes(name.decode(), value) for name, value in found.items()]
    if not is_accepted(response):
        assert kept == []
        return
    told = [one["item_id"] for one in response.json()["items"]]
    assert sorted(told) == sorted(item.item_id for item in kept)
    if sent is not None:
        assert told == [str(one["item_id"]) for one in sent["items"]]
    slate = json.dumps({"user_id": "ann", "candidates": told[:4]}).encode()
    assert send("POST", "/v1/score", slate, JSON).status_code == 200


@given(item_id=texts.filter(lambda text: text not in {".", ".."}))  # clients resolve them in paths
@drawn(50)
def test_any_item_may_be_named_to_be_removed(send: Send, item_id: str):
    path = f"{ITEMS}/{quote(item_id[:2000], safe='')}"
    response = send("DELETE", path, b"", {})
    check_refusal(response)
    assert response.status_code in (204, 400, 404)


@pytest.mark.parametrize(
    ("path", "drawn_bodies"),
    [(EVENTS, bodies(EVENT, "events", MAX_EVENTS)), (ITEMS, bodies(ITEM, "items", MAX_AT_ONCE))],
    ids=["events", "items"],
)
def test_draws_are_accepted_and_refused_for_many_reasons(
    send: Send, path: str, drawn_bodies: st.SearchStrategy[Body]
):
    """A generator whose bodies are all refused at the first look would test nothing."""
    answers: list[httpx.Response] = []

    @given(body=drawn_bodies)
    @drawn(200)
    def collect(body: Body) -> None:
        answers.append(send("POST", path, body[0], JSON))

    collect()
    reasons = {
        re.sub(r"\d+", "0", answer.json()["error"].split(":")[0])
        for answer in answers
        if answer.status_code >= 400
    }
    assert sum(answer.status_code < 300 for answer in answers) > 10
    assert len(reasons) > 5, reasons
