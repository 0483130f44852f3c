"""Times an event from its POST to a changed score, while other events and score requests arrive."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from loadtest.fresh.world import MODEL, World

LOOK_EVERY_S = 0.005
"""How often a probe asks for its score."""
PROBES_PER_S = 5
LIMIT_S = 10.0
"""Longest time that a probe waits for a changed score."""
CANDIDATES = 50


@dataclass
class Freshness:
    """What was measured.

    Attributes:
        seconds: of each probe, from the POST of its event to the first answer with another score.
        lost: number of probes whose score did not change in `LIMIT_S`.
        event_ms: of each POST /v1/events.
        score_ms: of each score request beside the probes.
        duration_s: how long events were sent.
        failed: answers with another status than 200 and 202.
    """

    seconds: list[float]
    lost: int
    event_ms: list[float]
    score_ms: list[float]
    duration_s: float
    failed: int = 0


class _Load:
    """Sends on a schedule, whatever answers take."""

    def __init__(self, world: World, client: httpx.AsyncClient, probes: int) -> None:
        self._world, self._client = world, client
        self._rng = np.random.default_rng(1)
        # Users of their own: no other event may change a probe's score.
        self._probed, self._others = world.users[:probes], world.users[probes:]
        self.result = Freshness([], 0, [], [], 0.0)

    async def event(self) -> None:
        user = self._others[int(self._rng.integers(len(self._others)))]
        took_s = await self._send(user, self._world.items(self._rng, 1)[0])
        self.result.event_ms.append(1000 * took_s)

    async def score(self) -> None:
        user = self._others[int(self._rng.integers(len(self._others)))]
        began_s = time.perf_counter()
        await self._scores(user, self._world.items(self._rng, CANDIDATES))
        self.result.score_ms.append(1000 * (time.perf_counter() - began_s))

    async def probe(self, number: int) -> None:
        user = self._probed[number]
        candidates = self._world.items(self._rng, CANDIDATES)
        before = await self._scores(
            user, candidates
        )  # now the record is in the memory of the service
        began_s = time.perf_counter()
        await self._send(user, candidates[0])
        while time.perf_counter() - began_s < LIMIT_S:
            if await self._scores(user, candidates) != before:
                self.result.seconds.append(time.perf_counter() - began_s)
                return
            await asyncio.sleep(LOOK_EVERY_S)
        self.result.lost += 1

    async def _scores(self, user: str, candidates: list[str]) -> Any:
        body = {"user_id": user, "candidates": candidates, "model": MODEL}
        answer = await self._client.post("/v1/score", json=body)
        self.result.failed += answer.status_code != 200
        return answer.json().get("scores")

    async def _send(self, user: str, item: str) -> float:
        began_s = time.perf_counter()
        answer = await self._client.post("/v1/events", json={"user_id": user, "item_id": item})
        self.result.failed += answer.status_code != 202
        return time.perf_counter() - began_s


async def measure(
    world: World, url: str, events_per_s: float, scores_per_s: float, duration_s: float
) -> Freshness:
    """Send events and score requests evenly for a while, and probe.

    Args:
        world: its users; those of the probes get no other events.
        url: of the service.
        events_per_s: events, the probes' included.
        scores_per_s: score requests, beside those of the probes.
        duration_s: how long to send.

    Raises:
        ValueError: there are fewer users than probes.
    """
    probes = int(PROBES_PER_S * duration_s)
    if len(world.users) <= probes:
        raise ValueError(f"users: got {len(world.users)}, expected more than {probes}, one a probe")
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        load = _Load(world, client, probes)
        began_s = time.perf_counter()
        await asyncio.gather(
            _evenly(events_per_s - PROBES_PER_S, duration_s, lambda _: load.event()),
            _evenly(scores_per_s, duration_s, lambda _: load.score()),
            _evenly(PROBES_PER_S, duration_s, load.probe),
        )
        load.result.duration_s = time.perf_counter() - began_s
    return load.result


async def _evenly(rate_per_s: float, duration_s: float, send: Any) -> None:
    began_s = time.perf_counter()
    tasks = []
    for number in range(int(rate_per_s * duration_s)):
        wait_s = began_s + number / rate_per_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.create_task(send(number)))
    await asyncio.gather(*tasks)
