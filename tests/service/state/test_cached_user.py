"""Values in the cache that are not a usable record: scored from the cold-start state, reported and counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.contract.errors import ForeignRecordError
from models.contract.generation import Generation
from models.contract.record import UserRecord, encode_record
from service.state.cached_user import read_user
from tests.service.state.test_counters import SERVING, record
from tests.service.toy import AS_OF_S, SPEC, Toy
from tests.service.world import HISTORIES, World, flipped, record_of

pytestmark = pytest.mark.anyio
TOY = Toy()
ANN = TOY.state(HISTORIES["ann"])
CANDIDATES = ["i1", "i5"]
COLD = TOY.scores(TOY.state([]), CANDIDATES)


def truncated(world: World, generation: Generation) -> bytes:
    return world.get(generation.key("ann"))[:-5]


def empty(_: World, __: Generation) -> bytes:
    return b""


def bit_flipped(world: World, generation: Generation) -> bytes:
    return flipped(world.get(generation.key("ann")), 70)


def of_another_artifact(world: World, _: Generation) -> bytes:
    return record_of("ann", ANN, Toy(seed=9).save(world.artifacts))


def of_another_user(world: World, generation: Generation) -> bytes:
    return world.get(generation.key("bob"))


def beyond_the_catalogue(_: World, generation: Generation) -> bytes:
    record = UserRecord("ann", AS_OF_S, np.array([32], np.int32), ANN)
    return encode_record(record, SPEC, generation.artifact_id, "fp32")


def before_the_catalogue(_: World, generation: Generation) -> bytes:
    record = UserRecord("ann", AS_OF_S, np.array([-1], np.int32), ANN)
    return encode_record(record, SPEC, generation.artifact_id, "fp32")


def with_too_many_items(_: World, generation: Generation) -> bytes:
    record = UserRecord("ann", AS_OF_S, np.zeros(4, np.int32), ANN)
    return encode_record(record, SPEC, generation.artifact_id, "fp32")


def no_record(_: World, __: Generation) -> bytes:
    return b"hello, this is some other program's value, long enough to have a header"


BROKEN = {
    truncated: "truncated",
    empty: "truncated: got 0 bytes",
    bit_flipped: "checksum",
    of_another_artifact: "artifact is",
    of_another_user: "user is 'bob', expected 'ann'",
    beyond_the_catalogue: "rows beyond the catalogue's 32",
    before_the_catalogue: "rows beyond the catalogue's 32",
    with_too_many_items: "recent: 4 rows, expected at most 3",
    no_record: "not a record",
}


@pytest.mark.parametrize("row", [-1, -(2**31), 32, 2**31 - 1])
async def test_a_state_with_rows_beyond_the_catalogue_is_not_scored(world: World, row: int):
    toy = Toy(keeps_rows=True)
    good = toy.state(HISTORIES["ann"])
    bad = good | {"latest": np.array([2, row], np.int32)}
    generation = world.publish(toy)
    world.put(generation.key("bob"), record_of("bob", bad, toy.save(world.artifacts)))
    async with world.service() as service:
        whole = await service.score("ann", CANDIDATES)
        answer = await service.score("bob", CANDIDATES)
    assert whole["state"]["source"] == "hit"
    assert answer["state"]["source"] == "corrupt"
    assert "record: state 'latest': rows beyond the first 32" in answer["degraded_reason"]
    assert answer["scores"] == pytest.approx(COLD, abs=1e-6)


@pytest.mark.parametrize(("breaking", "reason"), BROKEN.items(), ids=[f.__name__ for f in BROKEN])
async def test_a_broken_record_is_not_scored(world: World, breaking, reason: str):
    generation = world.publish(TOY)
    world.put(generation.key("ann"), breaking(world, generation))
    async with world.service() as service:
        answer = await service.score(candidates=CANDIDATES)
        user = await service.client.get("/v1/users/ann")
        corrupt = service.metric("absorb_cache_results_total", model="toy", result="corrupt")
    assert answer["state"] == {"source": "corrupt", "tier": "redis", "as_of_s": None}
    assert answer["degraded"]
    assert reason in answer["degraded_reason"]
    assert answer["scores"] == pytest.approx(COLD, abs=1e-6)
    assert corrupt == 1
    assert user.status_code == 200
    assert reason in user.json()["problem"]
    assert user.json()["tensors"] == user.json()["recent"] == []


async def test_a_key_of_another_type_is_corrupt(world: World):
    generation = world.publish(TOY)
    with world.redis as client:
        client.delete(generation.key("ann"))
        client.hset(generation.key("ann"), "field", "value")
    async with world.service() as service:
        answer = await service.score(candidates=CANDIDATES)
        user = await service.client.get("/v1/users/ann")
    assert answer["state"]["source"] == "corrupt"
    assert answer["scores"] == pytest.approx(COLD, abs=1e-6)
    assert "a value that is not a string" in user.json()["problem"]


async def test_no_flipped_bit_of_a_record_is_scored(world: World):
    generation = world.publish(TOY)
    key = generation.key("ann")
    raw = world.get(key)
    sources = []
    async with world.service(host_cache_bytes=0) as service:
        for at in range(len(raw)):
            world.put(key, flipped(raw, at))
            answer = await service.score(candidates=CANDIDATES)
            sources.append(answer["state"]["source"])
    assert sources == ["corrupt"] * len(raw)


def test_the_first_and_the_last_row_of_the_catalogue_are_read():
    last = SERVING.artifact.manifest.schema.num_items - 1
    one = UserRecord("ann", AS_OF_S, np.array([0, last], np.int32), ANN)
    user = read_user(
        encode_record(one, SPEC, SERVING.generation.artifact_id, "fp32"), SERVING, "ann"
    )
    assert user.recent.tolist() == [0, last]
    assert user.recent.dtype == np.int64
    assert (user.as_of_s, user.serving) == (AS_OF_S, SERVING)


def test_a_record_belongs_to_the_artifact_that_made_it(tmp_path: Path):
    """While a rolling publish overwrites one record after another."""
    artifact = Toy(seed=9).save(tmp_path)
    generation = replace(SERVING.generation, artifact_id=artifact.artifact_id)
    old = replace(SERVING, artifact=artifact, generation=generation)
    mixture = replace(SERVING, older={artifact.artifact_id: old})
    of_old = record_of("ann", ANN, artifact)
    assert read_user(of_old, mixture, "ann").serving is old
    assert read_user(record("ann"), mixture, "ann").serving is mixture
    with pytest.raises(ForeignRecordError, match=artifact.artifact_id):
        read_user(of_old, SERVING, "ann")
