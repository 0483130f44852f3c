"""The environment: cache, service and client as processes of their own, and what a scenario may do with them."""

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.chaos.cache import Cache
from loadtest.chaos.expected import MODEL, save_queries
from loadtest.chaos.fixtures import Fixtures
from loadtest.chaos.http_client import fetch, get
from loadtest.chaos.outcome import Outcome
from loadtest.chaos.process import ROOT, Service
from loadtest.chaos.proxy import Proxy
from loadtest.chaos.verdict import RECOVERY_LIMIT_S, Downtime, Fault
from models.contract.artifact import Artifact
from models.contract.generation import Generation

LOOK_EVERY_S = 0.01
LINE_LIMIT_BYTES = 1 << 20
DAMAGED_AT = 100
"""Byte of a record or of a graph that is made wrong: behind the header of either."""
SETTINGS = {
    "ABSORB_POLL_INTERVAL_S": "0.1",
    # Far too long for a cache beside it, but the machine is shared with the load, and a late answer is no fault.
    "ABSORB_CACHE_TIMEOUT_MS": "400",
    "ABSORB_LOG_LEVEL": "WARNING",
}


def damaged(good: bytes) -> bytes:
    """The same with one bit the other way."""
    return good[:DAMAGED_AT] + bytes([good[DAMAGED_AT] ^ 1]) + good[DAMAGED_AT + 1 :]


@dataclass
class Environment:
    """A service over a cache, under load, and a diary.

    Attributes:
        fixtures: artifacts, records, queries.
        cache: may be made to fail.
        proxy: between service and cache, in scenarios that ask for it.
        service: may be killed.
        folder: of this scenario: log, queries, artifacts.
        fault_s: how long a fault lasts, in seconds.
    """

    fixtures: Fixtures
    cache: Cache
    proxy: Proxy | None
    service: Service
    folder: Path
    fault_s: float
    outcomes: list[Outcome] = field(default_factory=list)
    generations: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    downtimes: list[Downtime] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    abuses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    current: Generation | None = None
    _published: int = 0

    @property
    def artifact_dir(self) -> Path:
        """Where the service looks for artifacts."""
        return self.folder / "artifacts"

    @property
    def next_artifact(self) -> Artifact:
        """What the next generation is published with."""
        return self.fixtures.artifacts[self._published % len(self.fixtures.artifacts)]

    @property
    def published(self) -> Generation:
        """The latest generation.

        Raises:
            ValueError: there is none.
        """
        if self.current is None:
            raise ValueError("nothing is published")
        return self.current

    @property
    def wire(self) -> Proxy:
        """The proxy.

        Raises:
            ValueError: the scenario did not ask for it.
        """
        if self.proxy is None:
            raise ValueError("this scenario needs the proxy")
        return self.proxy

    def records_of(self, generation: Generation) -> Mapping[str, bytes]:
        """User -> record, as published."""
        ids = [artifact.artifact_id for artifact in self.fixtures.artifacts]
        return self.fixtures.records[ids.index(generation.artifact_id)]

    async def calm(self, seconds: float) -> None:
        """Let the load run on, with nothing broken."""
        await asyncio.sleep(seconds)

    async def publish(self) -> Generation:
        """Publish the next generation: both artifacts take turns.

        Raises:
            PublishError: it does not fit.
            CacheUnavailableError: the cache stopped answering.
        """
        at = self._published % len(self.fixtures.artifacts)
        artifact, records = self.fixtures.artifacts[at], self.fixtures.records[at]
        generation = await self.cache.publish(MODEL, artifact, records, self.announce)
        self._published += 1
        self.current = generation
        return generation

    def announce(self, generation: Generation) -> None:
        """Note a generation before it can serve."""
        self.generations[generation.name] = generation.artifact_id

    async def serves(self, generation: Generation) -> bool:
        """Wait until an answer names this generation; False if none does in time."""
        deadline = time.monotonic() + RECOVERY_LIMIT_S
        seen = len(self.outcomes)
        while time.monotonic() < deadline:
            if any(one.generation == generation.name for one in self.outcomes[seen:]):
                return True
            seen = len(self.outcomes)
            await asyncio.sleep(LOOK_EVERY_S)
        return False

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """Something is broken inside the block, and mended at its end; then wait for the first hit."""
        started_s = time.monotonic()
        yield
        ended_s = time.monotonic()
        recovered_s = await self._first_hit(ended_s)
        self.faults.append(Fault(name, started_s, ended_s, recovered_s))

    async def _first_hit(self, since_s: float) -> float | None:
        deadline = time.monotonic() + RECOVERY_LIMIT_S + 1
        seen = len(self.outcomes)
        while time.monotonic() < deadline:
            new = self.outcomes[seen:]
            seen += len(new)
            if hits := [one.ended_s for one in new if one.is_hit and one.sent_s >= since_s]:
                return min(hits)
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def is_back(self, started_s: float, is_kill: bool) -> None:
        """Wait until a service that was launched again can score; `started_s` is when the old one was told to end."""
        await self.service.wait_until_ready()
        self.downtimes.append(Downtime(started_s, time.monotonic(), is_kill))
        self.memory.clear()  # of another process

    async def metrics(self) -> str:
        """A scrape."""
        return (await fetch(self.service.port, get("/metrics"))).body.decode()


@asynccontextmanager
async def running_environment(
    fixtures: Fixtures, folder: Path, settings: Mapping[str, str], fault_s: float, with_proxy: bool
) -> AsyncIterator[Environment]:
    """Everything started and one generation serving; stopped in the end, whatever happened."""
    async with AsyncExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
        cache = Cache(place)
        stack.push_async_callback(cache.close)
        await cache.start()
        for artifact in fixtures.artifacts:  # copies: scenarios damage them
            shutil.copytree(artifact.path, folder / "artifacts" / artifact.artifact_id)
        proxy = None
        if with_proxy:
            proxy = Proxy(Path(cache.url.removeprefix("unix://")), place / "proxy.sock")
            stack.push_async_callback(proxy.close)
            await proxy.start()
        places = {
            "ABSORB_CACHE_URL": proxy.url if proxy else cache.url,
            "ABSORB_ARTIFACT_DIR": str((folder / "artifacts").resolve()),
        }
        service = Service({**SETTINGS, **places, **settings}, folder / "service.log")
        stack.callback(service.close)
        environment = Environment(fixtures, cache, proxy, service, folder, fault_s)
        await environment.publish()
        service.launch()
        await service.wait_until_ready()
        yield environment


@asynccontextmanager
async def steady_load(environment: Environment, rate_per_s: float) -> AsyncIterator[None]:
    """Queries at a fixed rate inside the block; its end waits for their answers."""
    queries = environment.folder / "queries.json"
    save_queries(environment.fixtures.queries, queries)
    options = [str(environment.service.port), str(queries), str(rate_per_s)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.chaos.client", *options, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT_BYTES,
    )  # fmt: skip
    reading = asyncio.create_task(_note(process, environment.outcomes))
    try:
        while not environment.outcomes and not reading.done():
            await asyncio.sleep(LOOK_EVERY_S)
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await reading
        status = await process.wait()
        if status:
            environment.problems.append(f"the client ended with status {status}")


async def _note(process: asyncio.subprocess.Process, outcomes: list[Outcome]) -> None:
    if process.stdout is not None:
        async for line in process.stdout:
            outcomes.append(Outcome.from_line(line))
