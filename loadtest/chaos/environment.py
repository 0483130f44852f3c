"""The environment of a scenario: cache, service and client processes, faults, and a record of what happened."""

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
"""Position of the byte that is changed in a record or a graph: behind the header of both."""
SETTINGS = {
    "ABSORB_POLL_INTERVAL_S": "0.1",
    # Long for a local cache. The machine also runs the load, and an answer that is late for that reason is not a fault.
    "ABSORB_CACHE_TIMEOUT_MS": "400",
    "ABSORB_LOG_LEVEL": "WARNING",
}


def damaged(good: bytes) -> bytes:
    """The same bytes with one bit flipped."""
    return good[:DAMAGED_AT] + bytes([good[DAMAGED_AT] ^ 1]) + good[DAMAGED_AT + 1 :]


@dataclass
class Environment:
    """A service over a cache under load, and what happened.

    Attributes:
        fixtures: artifacts, records, queries.
        cache: the cache; scenarios make it fail.
        proxy: proxy between service and cache; None: the scenario has none.
        service: the service; scenarios kill or drain it.
        folder: folder of this scenario: log, queries, artifacts.
        fault_s: duration of a fault in seconds.
        outcomes: requests of the steady load.
        generations: name -> artifact id of every published generation.
        faults: faults that ended.
        downtimes: periods without a process that takes requests.
        memory: bytes of the service after each round.
        abuses: "request: outcome" -> count, for requests outside the steady load.
        problems: other violations that scenarios found.
        current: the latest generation.
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
        """The service's artifact folder."""
        return self.folder / "artifacts"

    @property
    def next_artifact(self) -> Artifact:
        """Artifact of the next generation."""
        return self.fixtures.artifacts[self._published % len(self.fixtures.artifacts)]

    @property
    def published(self) -> Generation:
        """The latest generation.

        Raises:
            ValueError: nothing is published.
        """
        if self.current is None:
            raise ValueError("nothing is published")
        return self.current

    @property
    def required_proxy(self) -> Proxy:
        """The proxy.

        Raises:
            ValueError: the scenario has no proxy.
        """
        if self.proxy is None:
            raise ValueError("this scenario needs the proxy")
        return self.proxy

    def records_of(self, generation: Generation) -> Mapping[str, bytes]:
        """Records of a generation: user -> encoded record."""
        ids = [artifact.artifact_id for artifact in self.fixtures.artifacts]
        return self.fixtures.records[ids.index(generation.artifact_id)]

    async def calm(self, seconds: float) -> None:
        """Wait while the load goes on."""
        await asyncio.sleep(seconds)

    async def publish(
        self, before: Callable[[Generation], Awaitable[None]] | None = None
    ) -> Generation:
        """Publish the next generation. Both artifacts are used in turn.

        Args:
            before: called with the generation before it can serve; None: nothing is to be done.

        Raises:
            PublishError: the generation does not fit into the cache.
            CacheUnavailableError: the cache stopped answering.
        """
        at = self._published % len(self.fixtures.artifacts)
        artifact, records = self.fixtures.artifacts[at], self.fixtures.records[at]
        generation = await self.cache.publish(MODEL, artifact, records, self.announce, before)
        self._published += 1
        self.current = generation
        return generation

    def announce(self, generation: Generation) -> None:
        """Record a generation before it can serve."""
        self.generations[generation.name] = generation.artifact_id

    async def serves(self, generation: Generation) -> bool:
        """Wait until an answer names this generation; False if none does in time."""
        deadline = time.monotonic() + RECOVERY_LIMIT_S
        seen = len(self.outcomes)
        while time.monotonic() < deadline:
            if any(o.generation == generation.name for o in self.outcomes[seen:]):
                return True
            seen = len(self.outcomes)
            await asyncio.sleep(LOOK_EVERY_S)
        return False

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """A fault: it begins and ends inside the block. Then wait for the first hit."""
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
            if hits := [o.ended_s for o in new if o.is_hit and o.sent_s >= since_s]:
                return min(hits)
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def wait_until_restarted(self, started_s: float, is_kill: bool) -> None:
        """Wait until a restarted service can score.

        Args:
            started_s: when the old process was told to end, on the monotonic clock.
            is_kill: it was killed, not drained.
        """
        await self.service.wait_until_ready()
        self.downtimes.append(Downtime(started_s, time.monotonic(), is_kill))
        self.memory.clear()  # it belongs to the old process

    async def metrics(self) -> str:
        """Text of /metrics."""
        return (await fetch(self.service.port, get("/metrics"))).body.decode()


@asynccontextmanager
async def running_environment(
    fixtures: Fixtures, folder: Path, settings: Mapping[str, str], fault_s: float, with_proxy: bool
) -> AsyncIterator[Environment]:
    """Start everything and publish one generation; stop everything at the end, also after an error."""
    async with AsyncExitStack() as stack:
        cache_folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
        cache = Cache(cache_folder)
        stack.push_async_callback(cache.close)
        await cache.start()
        for artifact in fixtures.artifacts:  # copies, because scenarios damage them
            shutil.copytree(artifact.path, folder / "artifacts" / artifact.artifact_id)
        proxy = None
        if with_proxy:
            proxy = Proxy(Path(cache.url.removeprefix("unix://")), cache_folder / "proxy.sock")
            stack.push_async_callback(proxy.close)
            await proxy.start()
        paths = {
            "ABSORB_CACHE_URL": proxy.url if proxy else cache.url,
            "ABSORB_ARTIFACT_DIR": str((folder / "artifacts").resolve()),
        }
        service = Service({**SETTINGS, **paths, **settings}, folder / "service.log")
        stack.callback(service.close)
        environment = Environment(fixtures, cache, proxy, service, folder, fault_s)
        await environment.publish()
        service.launch()
        await service.wait_until_ready()
        yield environment


@asynccontextmanager
async def steady_load(environment: Environment, rate_per_s: float) -> AsyncIterator[None]:
    """Send queries at a fixed rate inside the block; at its end, wait for their answers."""
    queries = environment.folder / "queries.json"
    save_queries(environment.fixtures.queries, queries)
    options = [str(environment.service.port), str(queries), str(rate_per_s)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "loadtest.chaos.client", *options),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
    )
    reading = asyncio.create_task(_read_outcomes(process, environment.outcomes))
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


async def _read_outcomes(process: asyncio.subprocess.Process, outcomes: list[Outcome]) -> None:
    if process.stdout is not None:
        async for line in process.stdout:
            outcomes.append(Outcome.from_line(line))
