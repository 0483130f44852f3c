"""Bad input: a 4xx whose text names the field, what came and what was expected; never {"detail"}, never a 5xx."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.transport.schemas import ErrorBody
from tests.service.toy import Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
GOOD: dict[str, Any] = {"user_id": "ann", "candidates": ["i1"]}
BAD = [
    ({"candidates": []}, 400, ["candidates: got []", "expected 1 to 20 item ids"]),
    ({"candidates": ["i1"] * 21}, 400, ["candidates: got 21", "expected 1 to 20 item ids"]),
    ({"candidates": "i1"}, 400, ["candidates: got 'i1'", "a list of item ids"]),
    ({"candidates": {"a" * 99: 1}}, 400, ["candidates: got {'aaaa", "a…, expected a list"]),
    ({"candidates": ["i1", 1.5]}, 400, ["candidates[1]: got 1.5", "a string or an integer"]),
    ({"candidates": ["i1", True]}, 400, ["candidates[1]: got True", "a string or an integer"]),
    ({"candidates": [None]}, 400, ["candidates[0]: got None", "a string or an integer"]),
    ({"candidates": ["i" * 129]}, 400, ["candidates[0]", "129 characters", "1 to 128 printable"]),
    ({"candidates": [{"fields": {}}]}, 400, ["candidates[0].id: got nothing", "required"]),
    ({"candidates": ["i1", {"id": 1.5}]}, 400, ["candidates[1].id: got 1.5", "an integer"]),
    (
        {"candidates": [{"id": "i1", "field": {}}]},
        400,
        ["candidates[0]: got 'field'", "only the keys id, fields", "did you mean 'fields'"],
    ),
    (
        {"candidates": [{"id": "i1", "fields": ["front"]}]},
        400,
        ["candidates[0].fields: got ['front']", "an object: candidate field -> value"],
    ),
    (
        {"candidates": ["i1", {"id": "i1", "fields": {"display": [1.5]}}]},
        400,
        ["candidates[1].fields.display: got [1.5]", "a finite number, true, false or null"],
    ),
    (
        {"candidates": [{"id": "i1", "fields": {"display": {}}}]},
        400,
        ["candidates[0].fields.display: got {}", "a finite number, true, false or null"],
    ),
    (
        {"candidates": [{"id": "i1", "fields": {"dispaly": "front"}}]},
        400,
        ["candidates[].fields: got 'dispaly'", "display, mailer", "did you mean 'display'"],
    ),
    (
        {"candidates": [{"id": "i1", "fields": {f"f{n}": 1, f"g{n}": 2}} for n in range(17)]},
        400,
        ["candidates[].fields: got 34 different names", "at most 32"],
    ),
    ({"candidates": [{"id": "i1"}] * 21}, 400, ["candidates: got 21", "1 to 20 item ids"]),
    ({"user_id": None}, 400, ["user_id: got None", "a string or an integer"]),
    ({"user_id": ""}, 400, ["user_id: got ''", "1 to 128 printable"]),
    ({"user_id": "u" * 5000}, 400, ["user_id", "5000 characters", "1 to 128 printable"]),
    ({"user_id": "a\nb"}, 400, ["user_id: got 'a\\nb'", "printable"]),
    ({"model": "toi"}, 404, ["model: got 'toi'", "expected one of: toy", "did you mean 'toy'"]),
    ({"model": 3}, 400, ["model: got 3", "a valid string"]),
    ({"recent": "i1"}, 400, ["recent: got 'i1'", "a list of item ids"]),
    ({"recent": [{}]}, 400, ["recent[0]: got {}", "a string or an integer"]),
    ({"context": []}, 400, ["context: got []", "an object"]),
    ({"context": {"hour": None}}, 400, ["context.hour", "got None"]),
    ({"context": {"hours": "day"}}, 400, ["context: got 'hours'", "hour, device", "did you mean"]),
    ({"top_k": 0}, 400, ["top_k: got 0", "greater than 0"]),
    ({"top_k": "3"}, 400, ["top_k: got '3'", "a valid integer"]),
    ({"top_k": True}, 400, ["top_k: got True", "a valid integer"]),
    ({"topk": 3}, 400, ["body: got 'topk'", "only the fields", "did you mean 'top_k'"]),
]


def error_of(response: httpx.Response) -> str:
    """The text of an error in the one form that errors have."""
    return ErrorBody.model_validate(response.json()).error


@pytest.fixture(scope="module")
async def service(module_world: World) -> AsyncIterator[Running]:
    module_world.publish(Toy(candidate_names=("display", "mailer")))
    async with module_world.service(max_candidates=20) as service:
        yield service


@pytest.mark.parametrize(("change", "status", "texts"), BAD, ids=[str(bad[0])[:40] for bad in BAD])
async def test_a_bad_field_is_named(service: Running, change: Any, status: int, texts: list[str]):
    response = await service.client.post("/v1/score", json={**GOOD, **change})
    assert response.status_code == status
    for text in texts:
        assert text in error_of(response)


@pytest.mark.parametrize("field", ["user_id", "candidates"])
async def test_a_missing_field_is_named(service: Running, field: str):
    body = {name: value for name, value in GOOD.items() if name != field}
    response = await service.client.post("/v1/score", json=body)
    assert response.status_code == 400
    assert error_of(response) == f"{field}: got nothing, expected a value: this field is required"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"user_id": "\\ud800"}', b"\xff", b"3"]
)
async def test_a_body_that_is_not_a_json_object_is_rejected(service: Running, body: bytes):
    response = await service.client.post("/v1/score", content=body)
    assert response.status_code == 400
    assert error_of(response).startswith("body: got ")


LONG = "a" * 500_000
DEEP = b"[" * 1000 + b"]" * 1000
LARGE = {
    "a name": json.dumps({**GOOD, LONG: 1}).encode(),
    "a model": json.dumps({**GOOD, "model": LONG}).encode(),
    "a context field": json.dumps({**GOOD, "context": {LONG: "x"}}).encode(),
    "many names": json.dumps(GOOD | {f"a{at}": 1 for at in range(20_000)}).encode(),
    "a candidate field": json.dumps(
        {**GOOD, "candidates": [{"id": "i1", "fields": {LONG: "x"}}]}
    ).encode(),
    "a key of a candidate": json.dumps({**GOOD, "candidates": [{"id": "i1", LONG: "x"}]}).encode(),
    "a deep body": DEEP,
    "a deep value": b'{"user_id": ' + DEEP[900:1100] + b"}",
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
async def test_what_is_long_or_deep_is_refused_in_a_few_words(service: Running, body: bytes):
    response = await service.client.post("/v1/score", content=body)
    assert response.status_code in {400, 404}
    assert len(error_of(response)) < 500


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def test_the_body_limit_holds_whether_or_not_the_length_is_declared(world: World):
    world.publish(Toy())
    limit = 1000
    fits = json.dumps(GOOD).encode().ljust(limit)
    async with world.service(max_body_bytes=limit) as service:
        for content in (fits, chunks(fits)):
            assert (await service.client.post("/v1/score", content=content)).status_code == 200
        for content in (fits + b" ", chunks(fits + b" ")):
            response = await service.client.post("/v1/score", content=content)
            assert response.status_code == 413
            assert "at most 1000 bytes" in error_of(response)


async def test_a_chunked_body_is_rejected_before_its_end(world: World):
    world.publish(Toy())
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100

    async with world.service(max_body_bytes=1000) as service:
        response = await service.client.post("/v1/score", content=endless())
    assert response.status_code == 413
    assert sent <= 1200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/score", 405), ("POST", "/v1/models", 405)],
)
async def test_wrong_routes_have_the_same_form_of_error(
    service: Running, method: str, path: str, status: int
):
    response = await service.client.request(method, path)
    assert response.status_code == status
    assert error_of(response).startswith(f"{method} {path}: ")


@pytest.mark.parametrize("user", ["u" * 129, "a%00b"])
async def test_a_bad_user_id_in_the_path_is_refused(service: Running, user: str):
    response = await service.client.get(f"/v1/users/{user}")
    assert response.status_code == 400
    assert error_of(response).startswith("user_id: got ")


async def test_nothing_published_is_503_and_says_when_to_try_again(world: World):
    async with world.service() as service:
        for response in (
            await service.client.post("/v1/score", json=GOOD),
            await service.client.get("/v1/users/ann"),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert "no generation of any model is published yet" in error_of(response)


async def test_one_request_too_many_is_429(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=2, max_queue=0) as service:
        posts = (service.client.post("/v1/score", json=GOOD) for _ in range(20))
        responses = await asyncio.gather(*posts)
        after = await service.client.post("/v1/score", json=GOOD)
    assert {response.status_code for response in responses} == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert "2 requests are being scored, and" in error_of(refused)
    assert after.status_code == 200


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CANDIDATE = st.just("i1") | st.fixed_dictionaries(
    {"id": st.just("i1") | ANYTHING},
    optional={
        "fields": st.dictionaries(
            st.sampled_from(["display", "mailer", "x"]),
            st.sampled_from(["front", "cover", 3, None]) | ANYTHING,
        )
        | ANYTHING
    },
)
CANDIDATES = st.just(["i1"]) | st.lists(CANDIDATE, min_size=1, max_size=4)
REQUESTS = st.fixed_dictionaries(
    {"user_id": st.just("ann") | ANYTHING, "candidates": CANDIDATES | ANYTHING},
    optional={
        "model": ANYTHING,
        "models": st.lists(st.just("toy") | ANYTHING, max_size=3) | ANYTHING,
        "recent": st.lists(st.text()) | ANYTHING,
        "context": st.dictionaries(st.sampled_from(["hour", "device"]), ANYTHING) | ANYTHING,
        "top_k": st.integers() | ANYTHING,
        "other": ANYTHING,
    },
)


@given(bodies=st.lists(REQUESTS | ANYTHING, min_size=30, max_size=30))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_json_whatsoever_gives_a_5xx(world: World, bodies: list[Any]):
    world.publish(Toy(candidate_names=("display", "mailer")))

    async def ask(service: Running, body: Any) -> None:
        for route in ("/v1/score", "/v1/compare"):
            response = await service.client.post(route, content=json.dumps(body))
            assert response.status_code in {200, 400, 404}, response.text
            if response.status_code != 200:
                error_of(response)

    async def ask_all() -> None:
        async with world.service() as service:
            for body in bodies:
                await ask(service, body)

    asyncio.run(ask_all())
