"""Faults of the worker that folds events: no accepted event may be lost or count twice, whatever breaks."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from builder.publish.cache import CacheClient
from builder.publish.generations import rollback
from loadtest.chaos.environment import Environment
from loadtest.chaos.events import Sent, check, sending, write_histories
from loadtest.chaos.expected import MODEL
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.worker import Workers
from models.contract.generation import Generation
from models.live.keys import CHANGED_KEY, FOLLOWERS_KEY, IN_KEY, TOUCHED_KEY

START_LIMIT_S = 30.0
WORKER_UP_S = 1.5
QUIET_S = 0.5
"""Time in which the last event before a pause is accepted."""
Fault = Callable[[Environment, Workers, Sent], Awaitable[None]]


async def _publish(environment: Environment) -> Generation:
    """Publish the next generation, with base histories of the users of the events."""
    artifact = environment.next_artifact

    async def before(generation: Generation) -> None:
        await environment.cache.do(lambda client: write_histories(client, generation, artifact))

    return await environment.publish(before)


@asynccontextmanager
async def _workers(environment: Environment) -> AsyncIterator[Workers]:
    settings = {
        "ABSORB_CACHE_URL": environment.cache.url,
        "ABSORB_ARTIFACT_DIR": str(environment.artifact_dir.resolve()),
        "ABSORB_LOG_LEVEL": "INFO",
    }
    workers = Workers(settings, environment.folder / "follow.log")
    workers.launch()
    try:
        yield workers
    finally:
        workers.close()
        if "Traceback" in workers.log():
            environment.problems.append("follow.log holds a traceback")


def _round(name: str, fault: Fault) -> Callable[[Environment], Awaitable[None]]:
    async def run(environment: Environment) -> None:
        await environment.cache.do(lambda client: client.delete(*_own_keys(client)))
        await environment.serves(await _publish(environment))
        sent = Sent()
        async with _workers(environment) as workers:
            await _until_following(environment)
            async with sending(environment, sent, len(environment.faults)):
                await environment.calm(WORKER_UP_S)
                async with environment.fault(name):
                    await fault(environment, workers, sent)
                await environment.calm(WORKER_UP_S)
            await check(environment, sent)
        if len(sent) < 10:
            environment.problems.append(f"events: got {len(sent)}, expected at least 10")

    return run


async def _until_following(environment: Environment) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    names: list[object] = []
    while not names:
        await environment.cache.do(lambda client: names.extend(client.smembers(FOLLOWERS_KEY)))
        if time.monotonic() > deadline:
            environment.problems.append(f"no worker follows after {START_LIMIT_S:.0f} s")
            return
        await environment.calm(QUIET_S)


def _own_keys(client: CacheClient) -> list[bytes]:
    """What the round before left: each round has its own events and workers."""
    return [*client.scan_iter(match="absorb.log:*"), TOUCHED_KEY.encode(), FOLLOWERS_KEY.encode()]


async def _kill(environment: Environment, workers: Workers, sent: Sent) -> None:
    workers.kill()
    await environment.calm(environment.fault_s / 2)
    workers.launch()


async def _two(environment: Environment, workers: Workers, sent: Sent) -> None:
    workers.launch()
    workers.launch()
    await environment.calm(environment.fault_s)
    workers.kill()


async def _trim(environment: Environment, workers: Workers, sent: Sent) -> None:
    workers.pause()
    await environment.calm(environment.fault_s)
    sent.is_paused = True
    await environment.calm(QUIET_S)
    await environment.cache.do(lambda client: client.xtrim(IN_KEY, maxlen=0, approximate=False))
    await environment.cache.do(
        lambda client: client.xtrim(CHANGED_KEY, maxlen=0, approximate=False)
    )
    workers.resume()


async def _lose(environment: Environment, workers: Workers, sent: Sent) -> None:
    workers.pause()
    await environment.calm(environment.fault_s)
    sent.is_paused = True
    await environment.calm(QUIET_S)
    await environment.cache.do(lambda client: client.delete(IN_KEY, CHANGED_KEY))
    workers.resume()


async def _restart_cache(environment: Environment, workers: Workers, sent: Sent) -> None:
    environment.cache.kill()
    await environment.calm(environment.fault_s / 3)
    await environment.cache.start()


async def _flip(environment: Environment, workers: Workers, sent: Sent) -> None:
    if not await environment.serves(await _publish(environment)):
        environment.problems.append("a generation that was published beside events does not serve")
    await environment.calm(environment.fault_s / 2)
    await environment.cache.do(lambda client: rollback(client, MODEL))


WORKER_FAULTS = (
    Scenario("follow-killed", "SIGKILL the worker, start it again", _round("worker killed", _kill)),
    Scenario("follow-two", "several workers at once, one is killed", _round("workers", _two)),
    Scenario("follow-trimmed", "the streams are trimmed", _round("streams trimmed", _trim)),
    Scenario("follow-lost", "the streams are deleted", _round("streams deleted", _lose)),
    Scenario(
        "follow-cache",
        "the cache is killed beside the worker",
        _round("cache killed", _restart_cache),
        sources=frozenset({"unavailable"}),
    ),
    Scenario("follow-flips", "a publish and a rollback beside events", _round("flips", _flip)),
)
