"""POST /v1/compare: each model answers as /v1/score would, alone; the rankings' agreement; the status of each error."""

import asyncio
import math
from collections.abc import AsyncIterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from tests.service.http.test_requests import BAD, GOOD, error_of
from tests.service.scoring.compared import (
    ALPHA,
    BETA,
    CANDIDATES,
    GAMMA,
    NAMES,
    SHARED,
    compare,
    logits_by_item,
    post,
    publish_three,
)
from tests.service.toy import Toy
from tests.service.world import Running, World, busy

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def service(module_world: World) -> AsyncIterator[Running]:
    """For requests that are rejected."""
    publish_three(module_world)
    async with module_world.service(max_candidates=20) as service:
        yield service


@pytest.mark.parametrize("user", ["ann", "bob", "nobody"])
@pytest.mark.parametrize("more", [{}, {"recent": ["i7"], "context": {"hour": "night"}}])
async def test_each_model_answers_as_score_does(world: World, user: str, more: dict[str, Any]):
    publish_three(world)
    async with world.service(host_cache_bytes=0) as service:
        answer = await compare(service, user_id=user, **more)
        alone = [await service.score(user, CANDIDATES, model=name, **more) for name in NAMES]
        best = [await service.score(user, CANDIDATES, model=n, top_k=10, **more) for n in NAMES]
    assert [one["model"] for one in answer["models"]] == NAMES
    assert (answer["user_id"], answer["top_k"]) == (user, 10)
    for compared, scored, ranked in zip(answer["models"], alone, best, strict=True):
        assert compared["scores"] == scored["scores"]
        assert {key: compared[key] for key in SHARED} == {key: scored[key] for key in SHARED}
        listed = [{"item": one["item"], "score": one["score"]} for one in compared["ranked"]]
        assert listed == ranked["ranked"]
        assert (compared["ignored_context"], compared["error"]) == ([], None)
    sources = {one["state"]["source"] for one in answer["models"]}
    assert sources == ({"miss"} if user == "nobody" else {"hit"})


async def test_top_k_limits_the_lists_and_drops_the_scores(world: World):
    publish_three(world)
    async with world.service() as service:
        answer = await compare(service, top_k=3)
        alone = await service.score(candidates=CANDIDATES, model="beta", top_k=3)
        everything = await compare(service, top_k=1000)
    assert answer["top_k"] == 3
    assert [one["scores"] for one in answer["models"]] == [None] * 3
    beta = answer["models"][1]["ranked"]
    assert [(one["item"], one["score"]) for one in beta] == [
        (one["item"], one["score"]) for one in alone["ranked"]
    ]
    assert [one["rank"] for one in beta] == [1, 2, 3]
    assert everything["top_k"] == len(CANDIDATES)
    assert {one["overlap"] for one in everything["agreement"]} == {1.0}


async def test_agreement_is_that_of_the_scores_given(world: World):
    publish_three(world)
    async with world.service() as service:
        answer = await compare(service)
    scores = {one["model"]: np.array(one["scores"]) for one in answer["models"]}
    best = {name: set(np.argsort(-s, kind="stable")[:10].tolist()) for name, s in scores.items()}
    pairs = list(combinations(NAMES, 2))
    assert [tuple(one["models"]) for one in answer["agreement"]] == pairs
    for (a, b), agreement in zip(pairs, answer["agreement"], strict=True):
        tau = float(kendalltau(scores[a], scores[b]).statistic)
        assert agreement["kendall_tau"] == pytest.approx(tau, abs=1e-12)
        assert agreement["overlap"] == len(best[a] & best[b]) / 10
    assert len({one["kendall_tau"] for one in answer["agreement"]}) > 1


async def test_ties_share_a_rank_and_count_in_tau(world: World):
    world.publish(ALPHA, "alpha", score=logits_by_item(3, 2, 2, 1))
    world.publish(BETA, "beta", score=logits_by_item(4, 3, 2, 1))
    world.publish(GAMMA, "flat", score=logits_by_item(1, 1, 1, 1))
    async with world.service() as service:
        answer = await compare(service, candidates=["i3", "i2", "i1", "i0"], top_k=2)
        everything = await compare(service, candidates=["i3", "i2", "i1", "i0"])
    alpha, beta, flat = (
        [(one["rank"], one["item"]) for one in model["ranked"]] for model in everything["models"]
    )
    assert alpha == [(1, "i0"), (2, "i2"), (2, "i1"), (4, "i3")]
    assert beta == [(1, "i0"), (2, "i1"), (3, "i2"), (4, "i3")]
    assert flat == [(1, "i3"), (1, "i2"), (1, "i1"), (1, "i0")]
    with_beta, with_flat, beta_flat = answer["agreement"]
    # Five of six pairs are ordered by both, the sixth ties in alpha.
    assert with_beta["kendall_tau"] == pytest.approx(5 / math.sqrt(5 * 6))
    assert with_flat["kendall_tau"] is beta_flat["kendall_tau"] is None
    # Alpha's best are i0 and, each in half of the cases, i1 or i2; beta's i0, i1; flat's any two of four.
    assert [one["overlap"] for one in answer["agreement"]] == [3 / 4, 1 / 2, 1 / 2]


async def test_one_candidate_has_no_order(world: World):
    publish_three(world)
    async with world.service() as service:
        answer = await compare(service, candidates=["i1"], top_k=5)
    assert answer["top_k"] == 1
    assert [[one["rank"] for one in model["ranked"]] for model in answer["models"]] == [[1]] * 3
    agreements = [(one["kendall_tau"], one["overlap"]) for one in answer["agreement"]]
    assert agreements == [(None, 1.0)] * 3


async def test_named_models_answer_in_the_order_of_the_request(world: World):
    publish_three(world)
    async with world.service() as service:
        two = await compare(service, models=["gamma", "alpha"])
        one = await compare(service, models=["beta"])
        every = await compare(service, models=None)
    assert [model["model"] for model in two["models"]] == ["gamma", "alpha"]
    assert [pair["models"] for pair in two["agreement"]] == [["gamma", "alpha"]]
    assert [model["model"] for model in one["models"]] == ["beta"]
    assert one["agreement"] == []
    assert [model["model"] for model in every["models"]] == NAMES


async def test_a_context_field_is_taken_by_the_models_that_have_it(world: World):
    world.publish(ALPHA, "alpha")
    world.publish(Toy(2, context_names=("hour",)), "beta")
    both, fewer = {"hour": "night", "device": "app"}, {"hour": "night"}
    async with world.service() as service:
        answer = await compare(service, context=both)
        alpha = await service.score(candidates=CANDIDATES, model="alpha", context=both)
        beta = await service.score(candidates=CANDIDATES, model="beta", context=fewer)
        refused = await post(service, context={"devise": "app"})
        alone = await post(service, context=both, models=["beta"])
        score = {"user_id": "ann", "candidates": ["i1"], "context": both, "model": "beta"}
        refused_by_score = await service.client.post("/v1/score", json=score)
    assert [one["scores"] for one in answer["models"]] == [alpha["scores"], beta["scores"]]
    assert [one["ignored_context"] for one in answer["models"]] == [[], ["device"]]
    assert refused.status_code == alone.status_code == 400
    assert error_of(refused) == (
        "context: got 'devise', expected a field among: hour, device; did you mean 'device'?"
    )
    assert error_of(alone) == error_of(refused_by_score)


BAD_MODELS = [
    ([], 400, "models: got [], expected a list of at least one model's name"),
    ("alpha", 400, "models: got 'alpha', expected a list of at least one model's name"),
    (["alpha", 3], 400, "models[1]: got 3, expected a string"),
    (["a", "b", "a"], 400, "models: got 'a', expected each name once, not 2 times"),
    (
        ["alpha", "betta"],
        404,
        "model: got 'betta', expected one of: alpha, beta, gamma; did you mean 'beta'?",
    ),
]


@pytest.mark.parametrize(("models", "status", "text"), BAD_MODELS)
async def test_bad_models_are_named(service: Running, models: Any, status: int, text: str):
    response = await post(service, models=models)
    assert (response.status_code, error_of(response)) == (status, text)


# None of the compared models has candidate fields, so that the list of known ones is another.
SAME: list[Any] = [
    bad for bad in BAD if "model" not in str(bad[0]) and "dispaly" not in str(bad[0])
]


@pytest.mark.parametrize(
    ("change", "status", "texts"), SAME, ids=[str(bad[0])[:40] for bad in SAME]
)
async def test_a_bad_field_is_named_as_score_names_it(
    service: Running, change: Any, status: int, texts: list[str]
):
    response = await service.client.post("/v1/compare", json={**GOOD, **change})
    assert response.status_code == status
    for text in texts:
        assert text in error_of(response)


async def test_what_score_takes_and_compare_does_not_is_named(world: World):
    publish_three(world)
    async with world.service(max_body_bytes=1000) as service:
        single = await post(service, model="alpha")
        long = await post(service, candidates=["i1"] * 1000)
        nothing = await service.client.post("/v1/compare", content=b"[]")
    assert "got 'model', expected only the fields" in error_of(single)
    assert "did you mean 'models'" in error_of(single)
    assert (long.status_code, nothing.status_code) == (413, 400)


async def test_flips_under_comparisons_mix_no_two_generations(world: World):
    toys = {world.publish(ALPHA, "alpha").name: ALPHA, world.publish(BETA, "beta").name: BETA}
    answers = []
    async with world.service() as service:

        async def ask() -> None:
            answers.extend([await compare(service, recent=[]) for _ in range(5)])

        for seed in range(10, 14):
            toys[world.publish(Toy(seed), "beta").name] = Toy(seed)
            await asyncio.gather(ask(), service.follower.poll(), ask())
    for answer in answers:
        for one in answer["models"]:
            toy = toys[one["generation"]]
            expected = toy.scores(toy.state(["i1", "i2", "i3"]), CANDIDATES)
            assert one["scores"] == pytest.approx(expected, abs=1e-6)
            assert one["state"]["source"] == "hit"
    assert len({answer["models"][1]["generation"] for answer in answers}) >= 4


async def test_a_comparison_takes_one_place_in_flight(world: World):
    publish_three(world)
    async with world.service(max_in_flight=1, max_queue=0) as service:
        alone = await compare(service)
        both = await asyncio.gather(post(service), post(service))
        after = await compare(service)
    assert len(alone["models"]) == len(after["models"]) == 3
    assert sorted(response.status_code for response in both) == [200, 429]


async def test_a_comparison_ends_at_its_deadline(world: World):
    publish_three(world)
    async with world.service() as service:
        body = {"user_id": "ann", "candidates": CANDIDATES}
        headers = {"X-Request-Timeout-Ms": "60"}
        with busy(service):  # without a deadline, it would wait until the threads are free
            async with asyncio.timeout(10):
                late = await service.client.post("/v1/compare", json=body, headers=headers)
        after = await compare(service)
    assert late.status_code == 504
    assert len(after["models"]) == 3


async def test_it_is_counted_under_its_route_and_its_models(world: World):
    publish_three(world)
    async with world.service() as service:
        await compare(service)
        await post(service, models=[])
        labels = {"route": "/v1/compare", "method": "POST", "model": ""}
        codes = [service.metric("absorb_requests_total", code=c, **labels) for c in ("200", "400")]
        timed = service.metric("absorb_request_duration_seconds_count", route="/v1/compare")
        lookups = [service.metric("absorb_cache_lookups_total", model=name) for name in NAMES]
        stages = [
            service.metric("absorb_stage_duration_seconds_count", model="beta", stage=stage)
            for stage in ("cache", "queue", "decode", "compute")
        ]
    assert (codes, timed) == ([1, 1], 2)
    assert (lookups, stages) == ([1, 1, 1], [1, 1, 1, 1])


async def test_timings_add_the_models_up(world: World):
    publish_three(world)
    async with world.service() as service:
        response = await post(service)
    timings = response.json()["timings_ms"]
    assert list(timings) == ["cache", "queue", "decode", "score", "agreement", "total"]
    each = [one["timings_ms"]["score"] for one in response.json()["models"]]
    assert timings["score"] == pytest.approx(sum(each), abs=0.01)
    stages_ms = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {stage: float(took) for stage, took in stages_ms.items()} == timings


async def test_openapi_describes_it(world: World):
    async with world.service() as service:
        described = (await service.client.get("/openapi.json")).json()
    route = described["paths"]["/v1/compare"]["post"]
    request_schema = route["requestBody"]["content"]["application/json"]["schema"]
    fields = "user_id candidates recent context models top_k"
    assert list(request_schema["properties"]) == fields.split()
    assert all(field["description"] for field in request_schema["properties"].values())
    (answer,) = route["responses"]["200"]["content"]["application/json"]["schema"].values()
    assert answer.endswith("/CompareResponse")
    assert "PairAgreement" in described["components"]["schemas"]
