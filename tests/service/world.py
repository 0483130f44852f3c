"""A real cache with published generations, and the service over it, in process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from models.contract.artifact import Artifact
from models.contract.generation import MODELS_KEY, Generation, Pointer, pointer_key
from models.contract.record import UserRecord, encode_record
from models.contract.state_spec import RecordDtype
from service.app import Dependencies, create_app
from service.generations.follower import Follower
from service.generations.selection import Selection
from service.observability.metrics import Telemetry
from service.observability.tracing import Tracing
from service.runtime.workers import Workers
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.wiring import build_dependencies
from tests.service.toy import AS_OF_S, VOCABULARY_OF_TOYS, Array, Toy

HISTORIES = {"ann": ["i1", "i2", "i3"], "bob": ["i9"], "a/b c": ["i4", "i4"]}
LOOKS = 5
"""Most looks at the pointers before a test begins. One takes 2 s at most."""
RECENT = {"ann": ["i2", "i3"], "bob": ["i9"], "a/b c": ["i4"]}


@dataclass
class Running:
    """The service, and the dependencies that tests look at."""

    client: httpx.AsyncClient
    app: FastAPI
    dependencies: Dependencies

    @property
    def follower(self) -> Follower:
        return self.dependencies.follower

    @property
    def selection(self) -> Selection:
        return self.dependencies.selection

    @property
    def pipeline(self) -> Pipeline:
        return self.dependencies.pipeline

    @property
    def telemetry(self) -> Telemetry:
        return self.dependencies.telemetry

    @property
    def workers(self) -> Workers:
        return self.dependencies.workers

    async def score(self, user: str = "ann", candidates: Any = ("i1", "i5"), **more: Any) -> Any:
        """The answer to a request that must succeed."""
        body = {"user_id": user, "candidates": list(candidates), **more}
        response = await self.client.post("/v1/score", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def ready(self) -> httpx.Response:
        """The answer to a probe, after one check of readiness, which a process makes several times a second."""
        await self.dependencies.readiness.look()
        return await self.client.get("/health/ready")

    def metric(self, name: str, **labels: str) -> float:
        """Value of one sample; 0 if it was never touched."""
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0


@dataclass
class World:
    """A cache server, an artifact folder, and what a builder would do with them."""

    url: str
    artifacts: Path
    builds: int = 0

    @property
    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)

    def publish(
        self,
        toy: Toy,
        model: str = "toy",
        dtype: RecordDtype = "fp32",
        states: Mapping[str, dict[str, Array]] | None = None,
        **changes: bytes,
    ) -> Generation:
        """Save the artifact, write every user and flip the pointer."""
        artifact = toy.save(self.artifacts, **changes)
        if states is None:
            states = {user: toy.state(history) for user, history in HISTORIES.items()}
        generation = self.new_generation(model, artifact, len(states), dtype)
        with self.redis as client:
            for user, state in states.items():
                client.set(generation.key(user), record_of(user, state, artifact, dtype))
        self.point(generation)
        return generation

    def new_generation(
        self, model: str, artifact: Artifact, users: int = 0, dtype: RecordDtype = "fp32"
    ) -> Generation:
        self.builds += 1
        name = f"20260101T000000Z-{self.builds:06x}"
        artifact_id = artifact.artifact_id
        return Generation(model, name, artifact_id, users, AS_OF_S, AS_OF_S + 60, dtype)

    def point(self, generation: Generation) -> None:
        with self.redis as client, client.pipeline(transaction=True) as transaction:
            pointer = Pointer(generation, None)
            transaction.sadd(MODELS_KEY, generation.model)
            transaction.set(pointer_key(generation.model), pointer.to_bytes())
            transaction.execute()

    def put(self, key: str, value: bytes) -> None:
        with self.redis as client:
            client.set(key, value)

    def get(self, key: str) -> bytes:
        with self.redis as client:
            return bytes(client.get(key))

    @asynccontextmanager
    async def service(
        self, now_s: float = AS_OF_S, tracing: Tracing | None = None, **settings: Any
    ) -> AsyncIterator[Running]:
        """The service over this world, after one look at the pointers; tests do the further ones."""
        fields = {
            "artifact_dir": self.artifacts,
            "cache_url": self.url,
            "cache_timeout_ms": 2000,
            "inline_ms": 0,  # a busy machine decides nothing: tests that want it say so
        }
        chosen = Settings(**{**fields, **settings})
        dependencies = build_dependencies(
            chosen, self.url, CollectorRegistry(), lambda: now_s, tracing
        )
        await first_look(dependencies)
        await dependencies.readiness.look()
        app = create_app(dependencies)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Running(client, app, dependencies)
        await dependencies.pipeline.close()
        await dependencies.tiers.close()
        dependencies.follower.close()
        dependencies.workers.shutdown()


async def first_look(dependencies: Dependencies) -> None:
    """Read the pointers; again if the cache did not answer in time, as on a machine whose cores are all busy."""
    for _ in range(LOOKS):
        await dependencies.follower.poll()
        if "no answer in" not in (dependencies.selection.cache_error or ""):
            return


def record_of(
    user: str, state: dict[str, Array], artifact: Artifact, dtype: RecordDtype = "fp32"
) -> bytes:
    recent = VOCABULARY_OF_TOYS.item_rows(RECENT.get(user, [])).astype(np.int32)
    record = UserRecord(user, AS_OF_S, recent, state)
    return encode_record(record, artifact.manifest.state_spec, artifact.artifact_id, dtype)


def flipped(raw: bytes, at: int) -> bytes:
    """The same bytes with one bit flipped."""
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@contextmanager
def busy(service: Running, num_threads: int = 64) -> Iterator[threading.Event]:
    """Keep every worker thread at work until the event is set: scores wait as behind a slow model."""
    end = threading.Event()
    for _ in range(num_threads):
        service.workers.submit(end.wait, 20)
    try:
        yield end
    finally:
        end.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def post_score(service: Running, **headers: str) -> "asyncio.Task[httpx.Response]":
    """Start a score request; the header `X-Name` is the argument `X_Name`."""
    body = {"user_id": "ann", "candidates": ["i1"]}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.create_task(service.client.post("/v1/score", json=body, headers=names))
