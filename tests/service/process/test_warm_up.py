"""Warm-up: slates and recorded requests are scored before the swap, within a time limit; failures are handled."""

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from models.contract.errors import ArtifactError
from service.process import warm_up as warm_up_module
from service.process.warm_up import read_queries
from service.runtime.scorer import Scorer
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
OLD, NEW = Toy(seed=1), Toy(seed=2)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the slates scored during warm-up, in order."""
    sizes: list[int] = []
    score = Scorer.score_many

    def noted(self, slates):
        if threading.current_thread().name.startswith("warm-up"):
            sizes.extend(len(slate.candidates) for slate in slates)
        return score(self, slates)

    monkeypatch.setattr(Scorer, "score_many", noted)
    return sizes


def recorded(path: Path, *bodies: object) -> Path:
    lines = [
        json.dumps(
            {"path": "/v1/score", "body": body if isinstance(body, str) else json.dumps(body)}
        )
        for body in bodies
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_slates_and_recorded_requests_are_scored_before_the_swap(
    world: World, tmp_path: Path, scored: list[int], caplog: pytest.LogCaptureFixture
):
    world.publish(OLD)
    ann = {"user_id": "ann", "candidates": ["i1", "i2"], "context": {"hour": "day", "no such": "x"}}
    path = recorded(
        tmp_path / "r.jsonl",
        ann,
        {**ann, "model": "toy"},
        {**ann, "model": "other"},
        "{",
        {"user_id": 1},
    )
    with caplog.at_level(logging.INFO, "service.process.warm_up"):
        async with world.service(warm_up_slates=(3, 200), warm_up_file=path) as service:
            assert scored == [3, 200, 2, 2]
            assert service.metric("absorb_cache_lookups_total", model="toy") == 0
            world.publish(OLD)  # the same artifact: its scorer is warm
            await service.follower.poll()
            assert scored == [3, 200, 2, 2]
            world.publish(NEW)
            await service.follower.poll()
            assert scored == [3, 200, 2, 2] * 2
    line = caplog.records[0]
    assert (line.message, line.__dict__["recorded"], line.__dict__["recorded_failed"]) == (
        "warmed up",
        2,
        0,
    )


async def test_a_failing_recorded_request_does_not_keep_a_generation_from_serving(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    world.publish(OLD)
    path = recorded(tmp_path / "r.jsonl", {"user_id": "ann", "candidates": ["i1"] * 7})
    score = Scorer.score_many

    def failing(self, slates):
        if len(slates[0].candidates) == 7:
            raise ArtifactError("score: seven")
        return score(self, slates)

    monkeypatch.setattr(Scorer, "score_many", failing)
    async with world.service(warm_up_file=path) as service:
        assert (await service.score())["model"] == "toy"
    assert "a recorded request cannot be scored" in caplog.text


@pytest.mark.parametrize(
    "error", [ArtifactError("score: broken"), RuntimeError("from the runtime")]
)
async def test_a_slate_that_fails_keeps_the_generation_from_serving(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    old = world.publish(OLD)
    async with world.service(warm_up_slates=(7,)) as service:
        score = Scorer.score_many

        def failing(self, slates):
            if len(slates[0].candidates) == 7:
                raise error
            return score(self, slates)

        monkeypatch.setattr(Scorer, "score_many", failing)
        world.publish(NEW)
        await service.follower.poll()
        assert (await service.score())["generation"] == old.name
        assert service.metric("absorb_load_failures_total", model="toy", error="ArtifactError") == 1


async def test_the_old_generation_serves_while_the_new_one_warms_up_and_no_longer_than_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    old = world.publish(OLD)
    async with world.service(warm_up_slates=(7,)) as service:
        release = threading.Event()
        score = Scorer.score_many

        def hanging(self, slates):
            if len(slates[0].candidates) == 7:
                release.wait(20)
            return score(self, slates)

        monkeypatch.setattr(Scorer, "score_many", hanging)
        monkeypatch.setattr(warm_up_module, "LIMIT_S", 0.3)
        new = world.publish(NEW)
        polling = asyncio.create_task(service.follower.poll())
        assert (await service.score())["generation"] == old.name
        await asyncio.wait_for(polling, 10)
        assert (await service.score())["generation"] == new.name
        release.set()
    assert "warm-up takes too long" in caplog.text


async def test_a_missing_warm_up_file_is_logged(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    world.publish(OLD)
    with caplog.at_level(logging.INFO, "service.process.warm_up"):
        async with world.service(warm_up_file=tmp_path / "absent") as service:
            assert (await service.score())["model"] == "toy"
    assert "absent" in caplog.records[0].__dict__["recorded_error"]


def test_recorded_candidates_keep_their_fields(tmp_path: Path):
    candidates = [{"id": "i1", "fields": {"display": "front"}}, "i2"]
    path = recorded(tmp_path / "r.jsonl", {"user_id": "ann", "candidates": candidates})

    (query,) = read_queries(path)

    assert query.candidates == ["i1", "i2"]
    assert query.candidate_fields == {"display": ["front", None]}


def test_only_the_latest_score_requests_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warm_up_module, "MAX_RECORDED", 2)
    path = recorded(
        tmp_path / "r.jsonl", *({"user_id": f"u{n}", "candidates": ["a"]} for n in range(5))
    )
    path.write_text(
        path.read_text() + '{"path": "/v2/models/x/infer"}\n[]\n{"path": "/v1/score"}\n'
    )
    assert [query.user_id for query in read_queries(path)] == ["u3", "u4"]
