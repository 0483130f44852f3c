"""Records with a right checksum that hold what cannot be scored: cold start for that user alone, over HTTP and V2.

The draws of the last test are the same in every run; `make fuzz` draws others, and more. gRPC: test_grpc_server.py.
"""

import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.generation import Generation, Pointer, pointer_key
from models.contract.record import decode_record
from models.contract.state_spec import RECORD_DTYPES, RecordDtype
from tests.fuzzing import drawn, serving
from tests.hostile_records import (
    AS_OF_AT,
    SIGNALLING,
    forged,
    hostile_records,
    payload_at,
    with_recent,
)
from tests.service.toy import Toy, listed_score_graph, state_score_graph
from tests.service.world import RECENT, Running, World

pytestmark = pytest.mark.anyio
CANDIDATES = ["i1", "i5"]
INFER = "/v2/models/toy/infer"
TOYS = {"every row": Toy(), "filled rows": Toy(is_sparse=True)}
FUZZED = {**TOYS, "ids": Toy(keeps_rows=True)}
HUGE = {"interest": np.full((2, 4), 3.4e38, np.float32), "length": np.ones(1, np.float32)}
"""A finite state whose score is not finite."""
each_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
each_dtype = pytest.mark.parametrize("dtype", RECORD_DTYPES)


def cold(toy: Toy) -> Any:
    return pytest.approx(toy.scores(toy.state([]), CANDIDATES), abs=1e-6)


def warm(world: World, toy: Toy, generation: Generation, user: str) -> Any:
    """Scores from the user's record as it is now in the cache."""
    raw = world.get(generation.key(user))
    state = dict(decode_record(raw, toy.spec, generation.artifact_id).state)
    return pytest.approx(toy.scores(state, CANDIDATES, RECENT[user]), abs=1e-6)


def first_number(raw: bytes, toy: Toy) -> int:
    """Position of the first number of the first tensor; in int8 that is a row's scale."""
    return payload_at(raw) + (4 if toy.is_sparse else 0)


def numbers_of(dtype: RecordDtype) -> dict[str, bytes]:
    form = "<f" if dtype == "fp32" else "<e"
    numbers = {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf}
    packed = {name: struct.pack(form, value) for name, value in numbers.items()}
    return {**packed, "signalling NaN": SIGNALLING[0 if dtype == "fp32" else 1]}


NOT_FINITE = [(dtype, name) for dtype in RECORD_DTYPES for name in numbers_of(dtype)]


def infer_body(*users: str) -> bytes:
    shape, candidates = [len(users), len(CANDIDATES)], CANDIDATES * len(users)
    inputs = [
        {"name": "user_id", "shape": [len(users)], "datatype": "BYTES", "data": users},
        {"name": "candidates", "shape": shape, "datatype": "BYTES", "data": candidates},
    ]
    return orjson.dumps({"inputs": inputs})


def outputs_of(answer: Any) -> tuple[list[float], list[str]]:
    """Scores and sources of a V2 request for several users."""
    assert answer.status_code == 200, answer.text
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    return outputs["scores"], outputs["state_source"]


async def infer(service: Running, *users: str) -> tuple[list[float], list[str]]:
    return outputs_of(await service.client.post(INFER, content=infer_body(*users)))


async def check_cold_until_repaired(
    service: Running, world: World, generation: Generation, toy: Toy, bad: bytes, reason: str
) -> None:
    """Ann's record is `bad`: she alone is scored from the cold start, until the record is right again."""
    key = generation.key("ann")
    ann, bob = (warm(world, toy, generation, user) for user in ("ann", "bob"))
    good = world.get(key)
    world.put(key, bad)
    answer = await service.score(candidates=CANDIDATES)
    scores, sources = await infer(service, "ann", "bob")
    counted = service.metric("absorb_cache_results_total", model="toy", result="corrupt")
    world.put(key, good)
    repaired = await service.score(candidates=CANDIDATES)
    assert (answer["state"]["source"], answer["state"]["as_of_s"]) == ("corrupt", None)
    assert reason in answer["degraded_reason"]
    assert answer["scores"] == cold(toy)
    assert scores[:2] == cold(toy)
    assert scores[2:] == bob
    assert (sources, counted) == (["corrupt", "hit"], 2)
    assert (repaired["state"]["source"], repaired["state"]["tier"]) == ("hit", "redis")
    assert repaired["scores"] == ann


@each_toy
@pytest.mark.parametrize(("dtype", "name"), NOT_FINITE)
async def test_a_value_that_is_not_finite_is_corrupt(
    world: World, toy: Toy, dtype: RecordDtype, name: str
) -> None:
    generation = world.publish(toy, dtype=dtype)
    raw = world.get(generation.key("ann"))
    bad = forged(raw, first_number(raw, toy), numbers_of(dtype)[name])
    reason = "record: state 'interest': a value that is not finite"
    async with world.service() as service:
        await check_cold_until_repaired(service, world, generation, toy, bad, reason)


@each_toy
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
async def test_a_vector_that_is_not_finite_is_corrupt(
    world: World, toy: Toy, dtype: RecordDtype
) -> None:
    generation = world.publish(toy, dtype=dtype)
    raw = world.get(generation.key("ann"))
    bad = forged(raw, len(raw) - 6, numbers_of(dtype)["inf"])
    async with world.service() as service:
        await check_cold_until_repaired(service, world, generation, toy, bad, "state 'length'")


@pytest.mark.parametrize("as_of_s", [-1, -(2**63), 2**63 - 1, 1_500_000_000_000])
async def test_a_moment_that_is_no_epoch_second_is_corrupt(world: World, as_of_s: int) -> None:
    toy = Toy()
    generation = world.publish(toy)
    raw = world.get(generation.key("ann"))
    bad = forged(raw, AS_OF_AT, struct.pack("<q", as_of_s))
    reason = f"as_of_s: got {as_of_s}, expected an epoch second before the year 2100"
    async with world.service(stale_after_s=100) as service:
        await check_cold_until_repaired(service, world, generation, toy, bad, reason)


@each_toy
@pytest.mark.parametrize("num_recent", [4, 5_000_000])
async def test_more_latest_items_than_the_schema_has_are_corrupt(
    world: World, toy: Toy, num_recent: int
) -> None:
    generation = world.publish(toy)
    bad = with_recent(world.get(generation.key("ann")), [2] * num_recent)
    reason = f"recent: {num_recent} rows, expected at most 3"
    async with world.service() as service:
        await check_cold_until_repaired(service, world, generation, toy, bad, reason)
        world.put(generation.key("ann"), bad)
        user = await service.client.get("/v1/users/ann")
    assert reason in user.json()["problem"]


@each_toy
@pytest.mark.parametrize("batch", [None, 4], ids=["alone", "joined"])
async def test_a_score_that_is_not_finite_is_corrupt_for_that_user_alone(
    world: World, toy: Toy, batch: int | None
) -> None:
    bad_record = world.publish(toy, states={"ann": HUGE})
    bad = world.get(bad_record.key("ann"))
    generation = world.publish(toy)
    reason = "record: with its state, the graph gave a score that is not finite"
    async with world.service(batch_max_requests=batch, batch_wait_ms=20) as service:
        await check_cold_until_repaired(service, world, generation, toy, bad, reason)


async def test_a_record_on_which_the_graph_fails_is_corrupt_for_that_user_alone(
    world: World,
) -> None:
    generation = world.publish(Toy(), score=state_score_graph([0.0, 0.5, 1.0, 1.5]))
    key = generation.key("ann")
    raw = world.get(key)
    # The graph takes the length, which is 3 for ann and 1 for bob, for a row of its table of four.
    world.put(key, forged(raw, len(raw) - 8, struct.pack("<f", 1e6)))
    async with world.service(batch_max_requests=2, batch_wait_ms=50) as service:
        scores, sources = await infer(service, "ann", "bob")
        world.put(key, raw)
        repaired = await service.score(candidates=CANDIDATES)
    assert sources == ["corrupt", "hit"]
    assert scores == pytest.approx([0.5, 0.5, *[1 / (1 + math.exp(-0.5))] * 2])
    assert repaired["scores"] == pytest.approx([1 / (1 + math.exp(-1.5))] * 2)


@pytest.mark.parametrize("value", [math.nan, 3.4e38])
async def test_a_comparison_and_a_hint_are_not_hurt(world: World, value: float) -> None:
    toy = Toy()
    generation = world.publish(toy)
    raw = world.get(generation.key("ann"))
    world.put(generation.key("ann"), forged(raw, payload_at(raw), struct.pack("<f", value) * 8))
    body = {"user_id": "ann", "candidates": CANDIDATES}
    async with world.service() as service:
        await service.client.post("/v1/prefetch", json={"user_ids": ["ann"]})
        await service.dependencies.tiers.prefetcher.settle()
        answer = (await service.client.post("/v1/compare", json=body)).json()
        world.put(generation.key("ann"), raw)
        repaired = await service.score(candidates=CANDIDATES)
    (model,) = answer["models"]
    assert (model["state"]["source"], model["error"]) == ("corrupt", None)
    assert model["scores"] == cold(toy)
    assert repaired["state"]["source"] == "hit"


async def test_the_norm_of_a_huge_state_is_a_number(world: World) -> None:
    world.publish(Toy(), states={"ann": HUGE})
    async with world.service() as service:
        user = (await service.client.get("/v1/users/ann")).json()
    assert user["tensors"][0]["norm"] == pytest.approx(3.4e38 * math.sqrt(8), rel=1e-6)


async def test_a_newer_record_stays_when_an_older_one_gave_no_score(world: World) -> None:
    world.publish(Toy())
    async with world.service() as service:
        (serving,) = service.selection.serving.values()
        tiers = service.dependencies.tiers
        old = await tiers.states.find(serving, "ann")
        tiers.host.users.remove(serving, "ann")
        await tiers.states.find(serving, "ann")
        tiers.states.drop(serving, "ann", old)
        assert tiers.host.holds(serving, "ann")


async def test_a_model_that_gives_no_score_from_the_cold_start_either_says_so(
    world: World,
) -> None:
    # Unknown items have a score, so the model loads.
    graph = listed_score_graph([0.0, 0.0, *[math.nan] * 30])
    generation = world.publish(Toy(), score=graph)
    body = {"user_id": "ann", "candidates": CANDIDATES}
    async with world.service() as service:
        v1 = await service.client.post("/v1/score", json=body)
        stranger = await service.client.post("/v1/score", json={**body, "user_id": "nobody"})
        v2 = await service.client.post(INFER, content=infer_body("ann", "bob"))
        unknown = await service.score(candidates=["no such"])
        failed = service.metric("absorb_score_failures_total", model="toy")
        corrupt = service.metric("absorb_cache_results_total", model="toy", result="corrupt")
    expected = (
        "score: the graph gave a score that is not finite from the cold-start state of model 'toy', "
        f"generation {generation.name}: the model is broken"
    )
    for answer in (v1, stranger, v2):
        assert (answer.status_code, answer.json()) == (500, {"error": expected})
    assert unknown["state"]["source"] == "hit"
    assert (failed >= 3, corrupt) == (True, 0)


@pytest.mark.parametrize("toy", FUZZED.values(), ids=FUZZED)
@each_dtype
def test_no_hostile_record_breaks_the_service(world: World, toy: Toy, dtype: RecordDtype) -> None:
    seen = set()
    with serving(world, toy, dtype) as send:
        generation = Pointer.from_bytes(world.get(pointer_key("toy")), "toy").current
        key, good = generation.key("ann"), world.get(generation.key("ann"))
        ann, bob = (warm(world, toy, generation, user) for user in ("ann", "bob"))

        @drawn(40)
        @given(hostile_records(good), st.booleans())
        def run(record: bytes, is_hinted: bool) -> None:
            world.put(key, record)
            if is_hinted:
                send("POST", "/v1/prefetch", b'{"user_ids": ["ann"]}', {})
            scores, sources = outputs_of(send("POST", INFER, infer_body("ann", "bob"), {}))
            user = send("GET", "/v1/users/ann", b"", {})
            assert all(0 <= score <= 1 for score in scores)
            assert scores[2:] == bob
            assert sources[0] == "hit" or scores[:2] == cold(toy)
            assert user.status_code == 200
            assert all(math.isfinite(one["norm"]) for one in user.json()["tensors"])
            seen.add(sources[0])
            world.put(key, good)
            if sources[0] == "corrupt":
                scores, sources = outputs_of(send("POST", INFER, infer_body("ann"), {}))
                assert (scores, sources) == (ann, ["hit"])

        run()
    assert seen == {"hit", "corrupt"}
