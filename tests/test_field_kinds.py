"""Fields that are no words, from a log to a score: every step of a build, then raw values over every door.

The log is one where a number decides: of what is on offer, people buy what is cheap, and no price occurs twice.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.metrics.targets import auc
from builder.evaluate.predict import predict
from builder.ingest.run import ingest
from builder.pipeline import Build
from builder.recipe.field_rules import FieldRule
from builder.recipe.recipe import Recipe
from builder.train.train import train
from models.contract.embedded_cache import resolve_cache_url
from models.contract.schema import FIRST_KNOWN
from tests.builder.finished import finished_build
from tests.builder.logs import START_S
from tests.builder.pool_logs import (
    DAYS,
    ITEMS,
    USERS,
    WEEK_S,
    WEEKS,
    offers,
    purchases,
    write_pools,
)
from tests.service.world import World
from tests.test_parity import LIMIT, Served

pytestmark = pytest.mark.anyio
CHEAP = 3
"""Items of a basket: the cheapest ones on offer, with one error in ten."""


def priced_offers() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    shown = offers()
    return shown.with_columns(
        price=pl.Series(np.exp(rng.uniform(0, 5, len(shown)))),
        organic=pl.Series(rng.choice(["yes", "No", "TRUE", "0"], len(shown))),
    )


def bargains(shown: pl.DataFrame) -> pl.DataFrame:
    """The visits of the usual log, at which people buy the cheapest items on offer."""
    rng = np.random.default_rng(6)
    visits = purchases().select("user_id", "timestamp", "store", "week").unique(maintain_order=True)
    pools = {key: pool.sort("price") for key, pool in shown.group_by("store", "week")}
    rows = []
    for user, time_s, store, week in visits.iter_rows():
        pool = pools.get((store, week))
        items = [f"i{n}" for n in range(CHEAP)] if pool is None else pool["item_id"].to_list()
        for item in items[:CHEAP]:
            bought = item if rng.random() < 0.9 else items[rng.integers(len(items))]
            since = datetime.fromtimestamp(time_s - 86_400 * int(rng.integers(1, 400)), UTC)
            facts = (round(float(rng.normal(12, 8)), 1), str(since.date()))
            rows.append((user, bought, time_s, store, week, *facts))
    names = ["user_id", "item_id", "timestamp", "store", "week", "degrees", "since"]
    return pl.DataFrame(rows, schema=names, orient="row").unique(maintain_order=True)


def write_bargains(folder: Path) -> Recipe:
    shown = priced_offers()
    weights = [None if n == 0 else n / 4 for n in range(ITEMS)]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "weight": weights})
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)], "age": range(20, 20 + USERS)})
    items.write_csv(folder / "items.csv")
    users.write_csv(folder / "users.csv")
    numeric = {"kind": "numeric", "buckets": 12}
    return write_pools(
        folder,
        bargains(shown),
        shown,
        data={
            "items": "items.csv",
            "users": "users.csv",
            "item_fields": ["weight"],
            "user_fields": ["age"],
            "context_fields": ["hour", "degrees", "since"],
            "candidate_fields": ["placement", "price", "organic"],
            "fields": {
                "weight": numeric,
                "age": numeric,
                "degrees": numeric,
                "price": {**numeric, "transform": "log"},
                "organic": {"kind": "boolean"},
                "since": {"kind": "date", "buckets": 8},
            },
        },
        history={"length": 24, "recent": 4},
        model={"name": "lrea", "slots": "items", "rank": 24, "counts": "slots", "mlp": [16, 8]},
        train={"steps": 150, "validate_every": 50, "slates_per_step": 16, "threads": 1},
        calibration={"method": "none"},
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Every step of a build of the log."""
    home = tmp_path_factory.mktemp("bargains")
    with finished_build(write_bargains(home), home) as build:
        yield build


@asynccontextmanager
async def serving(build: Build) -> AsyncIterator[Served]:
    async with World(resolve_cache_url(build.cache_url), build.artifacts).service() as service:
        model = Checkpoint.load(build.folder.checkpoint).build()
        yield Served(service, model.eval(), build.events())


def auc_of(recipe: Recipe) -> float:
    """AUC on the test part, after a training."""
    events = ingest(recipe)
    slates, source = part_slates(events, recipe, "test"), batch_source(events, recipe, "test")
    found = predict(train(events, recipe).build(), source, slates)
    return auc(found.probability, found.label)


def test_a_price_carries_signal_as_a_number_and_none_as_a_word(built: Build, tmp_path: Path):
    numbers = built.folder.stamps()["evaluate"].result["test"]
    recipe = write_bargains(tmp_path)
    words = replace(recipe.data, fields={**recipe.data.fields, "price": FieldRule()})
    assert numbers["auc"] > 0.7
    assert auc_of(replace(recipe, data=words)) < 0.6


def test_a_date_carries_signal_by_its_age_and_none_as_a_word(tmp_path: Path):
    """The log's people buy what was added last: the price is the age in days."""
    recipe = write_bargains(tmp_path)
    begin_s = START_S + pl.col("week") * WEEK_S
    added = pl.from_epoch((begin_s - pl.col("price") * 86_400).cast(pl.Int64)).cast(pl.String)
    priced_offers().with_columns(added=added).write_csv(tmp_path / "offers.csv")
    aucs = [
        auc_of(
            replace(
                recipe,
                data=replace(
                    recipe.data, candidate_fields=("added",), fields={"added": FieldRule(kind=kind)}
                ),
            )
        )
        for kind in ("date", "categorical")
    ]
    assert aucs[0] > 0.7
    assert aucs[1] < 0.6


def test_ids_offline_are_those_of_the_raw_numbers_online(built: Build):
    events, artifact = built.events(), built.artifact()
    frame = bargains(priced_offers()).sort("user_id", "timestamp", maintain_order=True)
    words = artifact.vocabulary
    degrees = [words.context_ids({"degrees": value})[1] for value in frame["degrees"]]
    offline = zip(events.ts_s.tolist(), events.context[:, 1].tolist(), strict=True)
    assert sorted(offline) == sorted(zip(frame["timestamp"], degrees, strict=True))
    for at, name in enumerate(events.user_ids):
        assert events.user_fields[at, 0] == words.user_ids({"age": 20 + int(name[1:])})[0]


PRICES: list[Any] = [1, 1.5, 147.25, 1e-7, -3, 10**15, "2.5", " 80 ", None, "", "cheap", "1e999"]


async def test_raw_numbers_over_every_door_are_scored_as_torch_scores_their_buckets(built: Build):
    slate = [f"i{n}" for n in range(len(PRICES))]
    candidates = [
        {"id": item, "fields": {"price": price, "placement": "front"}}
        for item, price in zip(slate, PRICES, strict=True)
    ]
    texts = [None if price is None else str(price) for price in PRICES]
    placed: dict[str, list[str | None]] = {"price": texts, "placement": ["front"] * len(slate)}
    contexts: list[Mapping[str, Any]] = [{}, {"degrees": 21.5}, {"degrees": -40}, {"degrees": "x"}]
    seen = set()
    async with serving(built) as served:
        for user in (0, 9):
            user_id = served.events.user_ids[user]
            for context in contexts:
                answer = await served.service.score(user_id, candidates, context=context)
                as_text = {name: str(value) for name, value in context.items()}
                expected = served.expected(user, slate, context=as_text, placed=placed)
                assert answer["state"]["source"] == "hit"
                assert answer["scores"] == pytest.approx(expected, abs=LIMIT)
                unknown = answer["unknown_candidate_fields"]
                assert unknown == {"price": [None, "", "cheap", "1e999"], "organic": [None]}
                assert ("degrees" in answer["unknown_context"]) == (context in ({}, contexts[-1]))
                seen.add(tuple(answer["scores"]))
            over_v2 = await _infer(served, user_id, slate[:3], [0.1, 1.5, 147.25])
            expected = served.expected(
                user, slate[:3], context={"degrees": "21.5"}, placed={"price": ["0.1", *texts[1:3]]}
            )
            assert over_v2 == pytest.approx(expected, abs=LIMIT)
    # No and an unknown number are one value here: training had no missing one.
    assert len(seen) == 2 * (len(contexts) - 1)


async def _infer(served: Served, user: str, slate: list[str], prices: list[float]) -> list[float]:
    """Scores over V2, with numbers as FP32 and FP64."""
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": [user]},
        {"name": "candidates", "shape": [len(slate)], "datatype": "BYTES", "data": slate},
        {"name": "price", "shape": [len(slate)], "datatype": "FP32", "data": prices},
        {"name": "degrees", "shape": [1], "datatype": "FP64", "data": [21.5]},
    ]
    response = await served.service.client.post("/v2/models/small/infer", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    scores: list[float] = response.json()["outputs"][0]["data"]
    return scores


async def test_floats_are_for_numeric_fields_alone_where_the_model_is_known(built: Build):
    async with serving(built) as served:
        wrong = {"name": "placement", "shape": [1], "datatype": "FP32", "data": [1.5]}
        inputs = [
            {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u1"]},
            {"name": "candidates", "shape": [1], "datatype": "BYTES", "data": ["i1"]},
            wrong,
        ]
        answer = await served.service.client.post("/v2/models/small/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert "inputs[placement].datatype: got 'FP32', expected BYTES or INT64" in answer.text


async def test_a_new_item_is_matched_by_the_bucket_of_its_weight(built: Build):
    async with serving(built) as served:
        sent = {"brand new": 3.3, "newer": "heavy"}
        items = [{"item_id": name, "fields": {"weight": sent[name]}} for name in sent]
        answer = await served.service.client.post("/v1/items", json={"items": items})
    assert answer.status_code == 200, answer.text
    matches = {one["item_id"]: one["models"]["small"] for one in answer.json()["items"]}
    assert matches["brand new"] == {"scored": "new", "matched": ["weight"], "unknown_fields": {}}
    assert matches["newer"]["unknown_fields"] == {"weight": "heavy"}


def test_items_without_a_number_have_an_id_of_their_own(built: Build):
    events = built.events()
    row = events.vocabulary.item_rows(["i0"])[0]
    assert events.item_fields[row, 1] == FIRST_KNOWN
    assert events.item_values["weight"][0] == ""
    assert DAYS["test_from_day"] // 7 + 2 == WEEKS


async def test_truth_values_and_dates_over_every_door_are_those_of_torch(built: Build):
    slate = [f"i{n}" for n in range(7)]
    truths: list[Any] = [True, False, "yes", 0, None, "NO", "maybe"]
    candidates = [
        {"id": item, "fields": {"organic": value}}
        for item, value in zip(slate, truths, strict=True)
    ]
    texts = [None if value is None else str(value) for value in truths]
    moments = [datetime.now(UTC) - timedelta(days=days, hours=1) for days in (3, 90)]
    forms: list[Any] = [
        *(form for at in moments for form in (at.isoformat(), int(at.timestamp()))),
        *("P3D", "P90D"),
    ]
    scores = []
    async with serving(built) as served:
        user_id = served.events.user_ids[2]
        for form in forms:
            answer = await served.service.score(user_id, candidates, context={"since": form})
            expected = served.expected(
                2, slate, context={"since": str(form)}, placed={"organic": texts}
            )
            assert answer["scores"] == pytest.approx(expected, abs=LIMIT)
            assert answer["unknown_candidate_fields"]["organic"] == [None, "maybe"]
            assert answer["unknown_context"] == {"hour": [None], "degrees": [None]}
            scores.append(answer["scores"])
        late = await served.service.score(user_id, candidates, context={"since": "last week"})
        assert late["unknown_context"]["since"] == ["last week"]
        inputs = [
            {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": [user_id]},
            {"name": "candidates", "shape": [2], "datatype": "BYTES", "data": slate[:2]},
            {"name": "organic", "shape": [2], "datatype": "BOOL", "data": [True, False]},
            {"name": "since", "shape": [1], "datatype": "INT64", "data": [forms[1]]},
        ]
        over_v2 = await served.service.client.post(
            "/v2/models/small/infer", json={"inputs": inputs}
        )
        assert over_v2.json()["outputs"][0]["data"] == pytest.approx(scores[0][:2], abs=LIMIT)
    three, ninety = (np.array([scores[at], scores[at + 1], scores[4 + at // 2]]) for at in (0, 2))
    assert np.ptp(three, axis=0).max() < LIMIT
    assert np.ptp(ninety, axis=0).max() < LIMIT
    assert np.abs(three[0] - ninety[0]).max() > LIMIT
