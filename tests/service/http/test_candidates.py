"""Candidate fields over HTTP: what changes the scores, and what the answer says of values that are not known."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.calibration import Isotonic
from models.contract.errors import RequestError
from service.http.candidates import Candidates, candidates_of
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
CALIBRATION = Isotonic((-2.0, 0.0, 1.0), (-2.5, -1.0, 0.5))
TOY = Toy(candidate_names=("display", "mailer"), calibration=CALIBRATION)
USER = "ann"
STATE, LATELY = TOY.state(HISTORIES[USER]), RECENT[USER]
PLACED = [
    {"id": "i2", "fields": {"display": "front", "mailer": "cover"}},
    {"id": "i2", "fields": {"display": 3, "mailer": None}},
    "i2",
    {"id": "i9", "fields": {"display": "ceiling"}},
    {"id": "i9"},
    7,
]
COLUMNS: dict[str, list[str | None]] = {
    "display": ["front", "3", None, "ceiling", None, None],
    "mailer": ["cover", None, None, None, None, None],
}
ITEMS = ["i2", "i2", "i2", "i9", "i9", "7"]


@pytest.fixture(scope="module")
async def service(module_world: World) -> AsyncIterator[Running]:
    module_world.publish(TOY)
    module_world.publish(Toy(seed=1), model="plain")
    async with module_world.service(default_model="toy") as running:
        yield running


def test_ids_and_objects_become_columns() -> None:
    assert candidates_of(PLACED) == Candidates(ITEMS, COLUMNS)
    assert candidates_of([{"id": "i1"}, {"id": 2, "fields": None}]) == Candidates(["i1", "2"])


plain = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9), min_size=1)


@given(plain)
def test_plain_ids_are_taken_as_they_are(ids: list[str]) -> None:
    read = candidates_of(ids)
    assert read.ids is ids  # no copy, no loop: slates are long
    assert read == candidates_of([{"id": one} for one in ids])


@given(st.lists(st.from_type(object)))
def test_anything_else_is_refused_by_name(values: list[object]) -> None:
    if not values or all(type(value) in (str, int, dict) for value in values):
        return
    with pytest.raises(RequestError, match=r"^candidates\["):
        candidates_of(values)


async def test_fields_change_the_scores_as_in_the_model(service: Running) -> None:
    answer = await service.score(USER, PLACED)

    expected = TOY.scores(STATE, ITEMS, LATELY, placed=COLUMNS)
    assert answer["scores"] == pytest.approx(expected, abs=1e-6)
    assert len({round(score, 4) for score in answer["scores"][:3]}) == 3  # one item, three ways
    assert answer["unknown_candidates"] == ["7"]


async def test_models_say_which_calibration_is_on(service: Running) -> None:
    listed = (await service.client.get("/v1/models")).json()["models"]

    assert {model["name"]: model["calibration"] for model in listed} == {
        "toy": "isotonic",
        "plain": "none",
    }


async def test_unknown_and_missing_values_are_listed(service: Running) -> None:
    answer = await service.score(USER, PLACED)
    plain_ids = await service.score(USER, ["i2"])
    known = await service.score(
        USER, [{"id": "i2", "fields": {"display": "front", "mailer": "none"}}]
    )

    assert answer["unknown_candidate_fields"] == {"display": [None, "ceiling"], "mailer": [None]}
    assert plain_ids["unknown_candidate_fields"] == {"display": [None], "mailer": [None]}
    assert known["unknown_candidate_fields"] == {}


async def test_requests_with_unknown_values_are_counted_by_field(service: Running) -> None:
    def counted() -> list[float]:
        name = "absorb_unknown_candidate_fields_total"
        return [service.metric(name, model="toy", field=one) for one in ("display", "mailer")]

    before = counted()
    await service.score(USER, [{"id": "i2", "fields": {"display": "new", "mailer": "none"}}] * 3)
    after = counted()

    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 0]


async def test_a_ranking_names_items_and_keeps_their_fields_apart(service: Running) -> None:
    answer = await service.score(USER, PLACED[:3], top_k=3)

    expected = TOY.scores(STATE, ITEMS, LATELY, placed=COLUMNS)[:3]
    assert [entry["score"] for entry in answer["ranked"]] == pytest.approx(
        sorted(expected, reverse=True), abs=1e-6
    )
    assert {entry["item"] for entry in answer["ranked"]} == {"i2"}


async def test_a_model_without_candidate_fields_refuses_them(service: Running) -> None:
    body: dict[str, Any] = {"user_id": USER, "model": "plain", "candidates": PLACED[:1]}
    response = await service.client.post("/v1/score", json=body)

    assert response.status_code == 400
    assert "expected no field: the model has no candidate fields" in response.json()["error"]
    body["candidates"] = [{"id": "i2"}, "i9"]
    assert (await service.client.post("/v1/score", json=body)).status_code == 200


async def test_a_comparison_gives_each_model_the_fields_that_it_has(service: Running) -> None:
    body = {"user_id": USER, "candidates": PLACED, "models": ["toy", "plain"]}
    response = await service.client.post("/v1/compare", json=body)
    placed, unplaced = response.json()["models"]

    expected = TOY.scores(STATE, ITEMS, LATELY, placed=COLUMNS)
    assert placed["scores"] == pytest.approx(expected, abs=1e-6)
    assert placed["ignored_candidate_fields"] == []
    assert placed["unknown_candidate_fields"]["display"] == [None, "ceiling"]
    assert unplaced["ignored_candidate_fields"] == ["display", "mailer"]
    assert unplaced["unknown_candidate_fields"] == {}
    assert unplaced["error"] is None


async def test_a_comparison_refuses_a_field_that_no_model_has(service: Running) -> None:
    candidates = [{"id": "i2", "fields": {"price": "low"}}]
    response = await service.client.post(
        "/v1/compare", json={"user_id": USER, "candidates": candidates}
    )

    assert response.status_code == 400
    assert response.json()["error"] == (
        "candidates[].fields: got 'price', expected a field among: display, mailer"
    )


async def test_the_list_of_models_names_the_candidate_fields(service: Running) -> None:
    models = (await service.client.get("/v1/models")).json()["models"]

    assert {model["name"]: model["candidate_fields"] for model in models} == {
        "toy": ["display", "mailer"],
        "plain": [],
    }
