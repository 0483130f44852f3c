"""Replay between two generations: differences of scores and ranks, and parity with what the service answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.generation import Generation, Pointer, pointer_key
from models.contract.record import UserRecord, encode_record
from models.live.history import BaseHistory, encode_history
from models.live.keys import history_key, shown_user
from models.replay.captured import read_captured
from models.replay.ranks import rank_distance
from service.tools.replay import app
from service.tools.replay_sides import open_side
from tests.service.toy import AS_OF_S, VOCABULARY_OF_TOYS, Toy
from tests.service.world import HISTORIES, RECENT, World

pytestmark = pytest.mark.anyio
OLD, NEW, OTHER = Toy(0), Toy(1), Toy(2)
SLATE = ["i1", "i5", "i7", "i9", "i11", "i13"]
USERS = ["ann", "bob", "nobody"]


def run(*arguments: object) -> int:
    code: int = app([str(one) for one in arguments], standalone_mode=False)
    return code


@pytest.fixture
async def log(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requests that the old generation answered; then the new one serves, and the old one is the previous."""
    old = world.publish(OLD)
    path = tmp_path / "slow.jsonl"
    async with world.service(slow_ms=1e-6, host_cache_bytes=0) as service:
        for user in USERS:
            await service.score(user, SLATE, context={"hour": "day"})
        await service.score("ann", [{"id": item} for item in SLATE], top_k=3, recent=["i1", "i2"])
        path.write_text((await service.client.get("/v1/slow")).text)
    new = world.publish(NEW)
    point(world, new, old)
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    return path


def point(world: World, current: Generation, previous: Generation) -> None:
    world.put(pointer_key(current.model), Pointer(current, previous).to_bytes())


def pointer_of(world: World) -> Pointer:
    return Pointer.from_bytes(world.get(pointer_key("toy")), "toy")


async def test_differences_are_those_of_both_models_and_parity_holds(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(log, "--between", "previous", "current", "--json")
    found = json.loads(capsys.readouterr().out)

    rows = {row["request_id"]: row for row in found["worst"]}
    ann = next(
        row for row in rows.values() if row["user"] == shown_user("ann") and row["candidates"] == 6
    )
    assert code == 0
    assert found["requests"] == 4
    assert found["cold"] == 1
    assert found["parity"] == {
        "compared": 4,
        "differ": 0,
        "rewritten": 0,
        "largest": pytest.approx(0, abs=1e-6),
    }
    assert 0 < found["rank_distance"]["mean"] < 1
    assert ann["score_difference"] > 0.01


async def test_a_side_scores_as_the_service_did(log: Path, world: World) -> None:
    requests, left_out = read_captured(log)
    assert left_out == 0
    with world.redis as client:
        sides = [
            open_side(client, world.artifacts, "toy", name) for name in ("previous", "current")
        ]
        of_ann = [request for request in requests if request.user_id == "ann"]
        (ann,) = (request for request in of_ann if request.answers[0]["scores"])
        old, new = (side.score(ann)[0] for side in sides)

    assert rank_distance(old, new) > 0
    recorded = ann.answers[0]["scores"]
    assert old == pytest.approx(recorded, abs=1e-9)


async def test_a_wrong_recorded_score_is_exit_code_1(log: Path, capsys) -> None:
    text = log.read_text()
    first, *others = text.splitlines()
    record = json.loads(first)
    answer = json.loads(record["answer"])
    key = "scores" if answer["scores"] else "ranked"
    if key == "scores":
        answer["scores"][0] += 0.01
    else:
        answer["ranked"][0]["score"] += 0.01
    log.write_text("\n".join([json.dumps({**record, "answer": json.dumps(answer)}), *others]))

    assert run(log, "--between", "previous", "current") == 1
    assert "4 compared, 1 differ" in capsys.readouterr().out


async def test_a_limit_of_the_rank_distance_is_an_exit_code(log: Path) -> None:
    assert run(log, "--between", "previous", "current", "--max-distance", 0.001) == 1
    assert run(log, "--between", "current", "current", "--max-distance", 0.001) == 0


async def test_rewritten_records_are_no_failure_of_parity(log: Path, world: World, capsys) -> None:
    previous = pointer_of(world).previous
    assert previous is not None
    artifact = OLD.save(world.artifacts)
    recent = VOCABULARY_OF_TOYS.item_rows(RECENT["bob"]).astype(np.int32)
    record = UserRecord("bob", AS_OF_S + 5, recent, OLD.state(["i2", "i7"]))
    raw = encode_record(record, artifact.manifest.state_spec, artifact.artifact_id, "fp32")
    world.put(previous.key("bob"), raw)

    assert run(log, "--between", "previous", "current") == 0
    assert "3 compared, 0 differ" in capsys.readouterr().out


async def test_an_artifact_alone_encodes_the_base_histories(log: Path, world: World) -> None:
    current = pointer_of(world).current
    artifact = OTHER.save(world.artifacts)
    rows = VOCABULARY_OF_TOYS.item_rows(HISTORIES["ann"]).astype(np.int32)
    profile = np.array([3], np.int32)  # "old"
    base = BaseHistory("ann", current.artifact_id, AS_OF_S, profile, rows, np.arange(len(rows)) + 9)
    world.put(history_key(current, "ann"), encode_history(base))
    world.put(history_key(current, "bob"), b"no history")

    with world.redis as client:
        side = open_side(client, world.artifacts, "toy", artifact.artifact_id)
        known, damaged = side.state_of("ann"), side.state_of("bob")

    assert known is not None
    expected: Any = OTHER.state(HISTORIES["ann"], age="old")
    assert known.state["interest"] == pytest.approx(expected["interest"], abs=1e-6)
    assert known.recent.tolist() == rows[-3:].tolist()
    assert damaged is None


@pytest.mark.parametrize(
    ("sides", "problem"),
    [
        (
            ("yesterday", "current"),
            "--between: got 'yesterday', expected one of: current, previous",
        ),
        (("current", "0" * 32), "0" * 32),
    ],
)
async def test_a_side_that_is_not_there_is_named(log: Path, sides, problem: str, capsys) -> None:
    assert run(log, "--between", *sides) == 2
    assert problem in capsys.readouterr().err


async def test_files_and_models_that_are_not_there_are_named(log: Path, tmp_path, capsys) -> None:
    assert run(tmp_path / "absent", "--between", "current", "previous") == 2
    assert run(log, "--between", "current", "previous", "--model", "din") == 2
    assert "din" in capsys.readouterr().err
