"""Small slates are scored on the event loop, and keep deadlines, counters and permits."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from service.runtime.scorer import Scored, Scorer, Slate
from service.scoring.compute import Costs
from tests.service.toy import Toy
from tests.service.world import Running, World, post_score

pytestmark = pytest.mark.anyio
ALWAYS_MS = 60_000.0


class Threads:
    """Notes the thread of every call of a scorer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_calls: list[int] = []
        score_many = Scorer.score_many

        def noted(scorer: Scorer, slates: Sequence[Slate]) -> list[Scored | Exception]:
            self.of_calls.append(threading.get_ident())
            return score_many(scorer, slates)

        monkeypatch.setattr(Scorer, "score_many", noted)

    def were_loop(self) -> list[bool]:
        return [thread == threading.get_ident() for thread in self.of_calls]


async def test_a_size_is_scored_on_the_loop_once_it_was_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    async with world.service(inline_ms=ALWAYS_MS) as service:
        threads = Threads(monkeypatch)
        slates = [["i1"], ["i1"], ["i1", "i2", "i3"], ["i3", "i2"]]
        for candidates in slates:
            answer = await service.score(candidates=candidates)
            assert set(answer["timings_ms"]) == {"cache", "queue", "decode", "score", "total"}
    assert threads.were_loop() == [False, True, False, True]


@pytest.mark.parametrize(
    "settings", [{"inline_ms": 0}, {"inline_ms": 60.0, "batch_max_requests": 4}]
)
async def test_a_thread_scores_without_the_setting_and_in_batches(
    world: World, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
):
    world.publish(Toy())
    async with world.service(**settings) as service:
        threads = Threads(monkeypatch)
        for _ in range(3):
            await service.score()
    assert threads.were_loop() == [False] * 3


async def test_long_slates_stay_off_the_loop(world: World, monkeypatch: pytest.MonkeyPatch):
    world.publish(Toy())
    async with world.service(inline_ms=20.0) as service:
        _delay(monkeypatch, 1.0, after=True)
        threads = Threads(monkeypatch)
        for _ in range(3):
            await service.score()
    assert threads.were_loop() == [False] * 3


class Shared:
    """Makes every scorer's engine one that threads can share; notes which calls got help, and threads that help."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.had_help: list[bool] = []
        self.helpers: list[int] = []
        score_many = Scorer.score_many

        def noted(scorer: Scorer, slates: Sequence[Slate]) -> list[Scored | Exception]:
            for slate in slates:
                self.had_help.append(slate.help is not None)
                if slate.help is not None:
                    slate.help(lambda: self.helpers.append(threading.get_ident()), 9)
            return score_many(scorer, slates)

        monkeypatch.setattr(Scorer, "is_shared", True)
        monkeypatch.setattr(Scorer, "score_many", noted)


async def test_a_slate_that_is_alone_is_scored_on_the_loop_with_the_idle_threads(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    monkeypatch.setattr("service.wiring.num_cores", lambda: 3)
    async with world.service(inline_ms=0, inline_alone_ms=ALWAYS_MS) as service:
        shared, threads = Shared(monkeypatch), Threads(monkeypatch)
        for _ in range(3):
            await service.score()
    assert threads.were_loop() == [False, True, True]
    assert shared.had_help == [True] * 3
    # The scoring thread takes the place of one of three. The first call holds one of them itself.
    assert len(shared.helpers) == 6
    assert threading.get_ident() not in shared.helpers


async def test_slates_that_arrive_together_are_scored_in_threads_without_help(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    async with world.service(inline_ms=0, inline_alone_ms=ALWAYS_MS) as service:
        await service.score()
        shared, threads = Shared(monkeypatch), Threads(monkeypatch)
        service.dependencies.arrivals.watch(range(4))
        await asyncio.gather(*(service.score() for _ in range(4)))
        assert threads.were_loop() == [False] * 4
        assert shared.had_help == [False] * 4
        service.dependencies.arrivals.watch(range(1))
        await service.score()
    assert threads.were_loop()[4:] == [True]


async def test_a_slow_slate_that_is_alone_stays_off_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    async with world.service(inline_ms=0, inline_alone_ms=20.0) as service:
        _delay(monkeypatch, 0.03, after=True)
        shared, threads = Shared(monkeypatch), Threads(monkeypatch)
        for _ in range(3):
            await service.score()
    assert threads.were_loop() == [False] * 3
    assert shared.had_help == [True] * 3


async def test_an_inline_score_counts_as_every_score(world: World):
    world.publish(Toy())
    async with world.service(inline_ms=ALWAYS_MS) as service:
        answers = [await service.score() for _ in range(4)]
        assert service.metric("absorb_cache_lookups_total", model="toy") == 4
        labels = {"model": "toy", "stage": "compute"}
        assert service.metric("absorb_stage_duration_seconds_count", **labels) == 4
        assert service.metric("absorb_in_flight") == 0
    assert len({tuple(answer["scores"]) for answer in answers}) == 1


async def test_an_inline_score_that_ends_too_late_is_status_504(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    async with world.service(inline_ms=ALWAYS_MS) as service:
        await service.score(candidates=["i1"])
        _delay(monkeypatch, 0.05)
        answer = await post_score(service, X_Request_Timeout_Ms="20")
        assert answer.status_code == 504
        await _check_rest(service)


def _delay(monkeypatch: pytest.MonkeyPatch, seconds: float, after: bool = False) -> None:
    """Delay every score: before it begins, or before it ends, so that the delay is measured."""
    score_many = Scorer.score_many

    def late(scorer: Scorer, slates: Sequence[Slate]) -> list[Scored | Exception]:
        if not after:
            threading.Event().wait(seconds)
        results = score_many(scorer, slates)
        for slate in slates if after else ():
            slate.ended["score"] += seconds
        return results

    monkeypatch.setattr(Scorer, "score_many", late)


async def _check_rest(service: Running) -> None:
    assert service.metric("absorb_rejected_total", reason="deadline") == 1
    assert service.metric("absorb_in_flight") == 0
    await asyncio.sleep(0)
    assert (await post_score(service)).status_code == 200


def test_an_estimate_follows_slow_slates_at_once_and_fast_ones_slowly():
    costs, scorer = Costs(), object.__new__(Scorer)
    assert costs.estimate_s(scorer, 10) == float("inf")
    costs.note(scorer, 10, 0.001)
    assert costs.estimate_s(scorer, 15) == 0.001
    assert costs.estimate_s(scorer, 16) == float("inf")
    costs.note(scorer, 9, 0.1)
    assert costs.estimate_s(scorer, 10) == 0.1
    for _ in range(44):
        costs.note(scorer, 10, 0.001)
    assert 0.001 < costs.estimate_s(scorer, 10) < 0.002
