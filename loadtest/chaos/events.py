"""Live events that are sent while things break, and what every state must be at the end.

Users of the events are in no query of the steady load, whose scores are known before. Each event is sent until the
service accepts it, many are sent twice, and some are late. At the end, the log of each user must hold the accepted
events and no others, and the record must be what the encode graph makes of the base history and these events.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from builder.publish.cache import CacheClient
from loadtest.chaos.environment import Environment
from loadtest.chaos.expected import MODEL
from models.contract.artifact import ENCODE, Artifact
from models.contract.errors import RecordError
from models.contract.generation import Generation, Pointer, pointer_key
from models.contract.record import decode_record
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.live.ages import Ages
from models.live.event import Event
from models.live.fold import ReEncode, Task
from models.live.history import BaseHistory, decode_history, encode_history
from models.live.keys import history_key, log_key
from models.live.log import read_log
from models.live.window import window_of
from service.follow.graph import encoder

USERS = tuple(f"live-{number}" for number in range(12))
"""Every second one is known to the build."""
EVENTS_PER_S = 25.0
SHARE_TWICE = 0.3
SHARE_LATE = 0.2
LATE_S = 3 * 86_400
TRY_EVERY_S = 0.05
SETTLE_LIMIT_S = 30.0
LIMIT = 1e-6
"""Largest allowed difference of a number of a state."""


def write_histories(client: CacheClient, generation: Generation, artifact: Artifact) -> None:
    """Write base histories of some users, as a publish does before its records."""
    schema, rng = artifact.manifest.schema, np.random.default_rng(3)
    known = len(artifact.vocabulary.items)
    for user in USERS[::2]:
        number = int(rng.integers(1, schema.history_length + 1))
        history = BaseHistory(
            user,
            artifact.artifact_id,
            generation.as_of_s,
            np.full(len(schema.user_fields), UNKNOWN, np.int32),
            rng.integers(FIRST_KNOWN, FIRST_KNOWN + known, number).astype(np.int32),
            np.sort(generation.as_of_s - 1 - rng.integers(0, LATE_S, number)),
        )
        client.set(history_key(generation, user), encode_history(history))


@dataclass
class Sent:
    """Events that the service accepted.

    Attributes:
        events: user -> event id -> event.
        requests: number of requests, those that failed and repeated ones included.
        is_paused: no event is sent now: a later one of the same user would hide that an earlier one was lost.
    """

    events: dict[str, dict[str, Event]] = field(default_factory=lambda: {u: {} for u in USERS})
    requests: int = 0
    is_paused: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.events.values()))


@asynccontextmanager
async def sending(environment: Environment, sent: Sent, seed: int) -> AsyncIterator[None]:
    """Send events inside the block; at its end, wait until each one is accepted."""
    is_over = asyncio.Event()
    task = asyncio.create_task(_send(environment, sent, seed, is_over))
    try:
        yield
    finally:
        is_over.set()
        await task


async def _send(environment: Environment, sent: Sent, seed: int, is_over: asyncio.Event) -> None:
    rng = np.random.default_rng(seed)
    items = [*environment.fixtures.artifacts[0].vocabulary.items, "no-such-item"]
    url = f"http://127.0.0.1:{environment.service.port}"
    async with httpx.AsyncClient(base_url=url, timeout=5.0) as client:
        while not is_over.is_set():
            if sent.is_paused:
                await asyncio.sleep(TRY_EVERY_S)
                continue
            late_s = int(rng.integers(LATE_S)) if rng.random() < SHARE_LATE else 0
            event = Event(
                f"event-{seed}-{len(sent)}",
                str(rng.choice(USERS)),
                str(rng.choice(items)),
                int(time.time()) - late_s,
            )
            for _ in range(2 if rng.random() < SHARE_TWICE else 1):
                await _until_accepted(client, sent, event)
            sent.events[event.user_id][event.event_id] = event
            await asyncio.sleep(1 / EVENTS_PER_S)


async def _until_accepted(client: httpx.AsyncClient, sent: Sent, event: Event) -> None:
    body = {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "ts_s": event.ts_s,
    }
    while True:
        sent.requests += 1
        try:
            if (await client.post("/v1/events", json=body)).status_code == 202:
                return
        except httpx.HTTPError:
            pass  # the service may be away; the event is the same when it is sent again
        await asyncio.sleep(TRY_EVERY_S)


async def check(environment: Environment, sent: Sent) -> None:
    """Wait until every state is right; note what is wrong after `SETTLE_LIMIT_S`."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while True:
        wrong: list[str] = []
        await environment.cache.do(lambda client: wrong.extend(problems(environment, client, sent)))  # noqa: B023
        if not wrong:
            wrong += await _unseen(environment, sent)
        if not wrong:
            return
        if time.monotonic() > deadline:
            environment.problems += wrong
            return
        await environment.calm(0.1)


def problems(environment: Environment, client: Any, sent: Sent) -> list[str]:
    """What differs from an encode of the accepted events, in the generation that serves."""
    pointer = Pointer.from_bytes(client.get(pointer_key(MODEL)), MODEL)
    generation = pointer.current
    artifacts = {artifact.artifact_id: artifact for artifact in environment.fixtures.artifacts}
    artifact = artifacts[generation.artifact_id]
    wrong = []
    tasks = []
    for user in USERS:
        log = {event.event_id: event for event in read_log(client.hgetall(log_key(user))).events}
        if log != sent.events[user]:
            wrong.append(
                f"{user}: the log holds {len(log)} events, {len(sent.events[user])} accepted"
            )
        if sent.events[user]:
            tasks.append(
                _task(client, artifact, generation, user, list(sent.events[user].values()))
            )
    manifest = artifact.manifest
    ages = Ages(manifest.request_gap_s)
    encode = encoder(artifact.graph(ENCODE))
    folder = ReEncode(manifest.schema, manifest.state_spec, encode, ages)
    for task, expected in zip(tasks, folder.fold(tasks), strict=True):
        raw = client.get(generation.key(task.user_id))
        try:
            found = decode_record(raw or b"", manifest.state_spec, artifact.artifact_id)
        except RecordError as error:
            wrong.append(f"{task.user_id} of {generation.name}: {error}")
            continue
        difference = max(
            float(np.abs(found.state[name] - values).max(initial=0.0))
            for name, values in expected.state.items()
        )
        same = (found.as_of_s, found.recent.tolist()) == (
            expected.as_of_s,
            expected.recent.tolist(),
        )
        if difference > LIMIT or not same:
            wrong.append(f"{task.user_id} of {generation.name}: differs by {difference:.1e}")
    return wrong


def _task(
    client: Any, artifact: Artifact, generation: Generation, user: str, events: Sequence[Event]
) -> Task:
    schema = artifact.manifest.schema
    raw = client.get(history_key(generation, user))
    base = None if raw is None else decode_history(raw, artifact.artifact_id, user)
    length = max(schema.history_length, schema.recent_length)
    rows = artifact.vocabulary.item_rows
    window = window_of(base, events, rows, generation.as_of_s, length)
    fields = np.full(len(schema.user_fields), UNKNOWN, np.int64)
    return Task(user, window, fields, len(events))


async def _unseen(environment: Environment, sent: Sent) -> list[str]:
    """Users of whom the service answers from an older state."""
    wrong = []
    url = f"http://127.0.0.1:{environment.service.port}"
    item = environment.fixtures.artifacts[0].vocabulary.items[0]
    async with httpx.AsyncClient(base_url=url, timeout=5.0) as client:
        for user, events in sent.events.items():
            if not events:
                continue
            answer = await client.post("/v1/score", json={"user_id": user, "candidates": [item]})
            newest_s = max(event.ts_s for event in events.values())
            found = answer.json().get("state", {}).get("as_of_s") if answer.is_success else None
            if found is None or found < newest_s:
                wrong.append(f"{user}: scored as of {found}, expected {newest_s}")
    return wrong
