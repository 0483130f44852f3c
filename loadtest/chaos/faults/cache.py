"""Faults of the cache: killed, paused, slow, cut, full, emptied, corrupted records."""

import time

from builder.errors import PublishError
from loadtest.chaos.environment import Environment, damaged
from loadtest.chaos.scenario import Scenario
from models.contract.errors import CacheUnavailableError

SLOW_S = 2.0
"""Delay of every answer of the cache: longer than the service waits."""
SPARE_BYTES = 4096
"""Memory left in a full cache: less than a generation needs."""
RETURN_S = 0.3
ALL_USERS_S = 2.5
"""Time in which the load requests every user."""


async def killed(environment: Environment) -> None:
    """SIGKILL the cache, then start it with its content on disk."""
    async with environment.fault("cache killed"):
        environment.cache.kill()
        await environment.calm(environment.fault_s)
        await environment.cache.start()
    await environment.calm(RETURN_S)


async def paused(environment: Environment) -> None:
    """Connections stay open without answers."""
    async with environment.fault("cache paused"):
        environment.cache.pause()
        await environment.calm(environment.fault_s)
        environment.cache.resume()
    await environment.calm(RETURN_S)


async def slow(environment: Environment) -> None:
    """Every answer comes too late."""
    async with environment.fault("cache slow"):
        environment.required_proxy.delay_s = SLOW_S
        await environment.calm(environment.fault_s)
        environment.required_proxy.delay_s = 0.0
    await environment.calm(RETURN_S)


async def cut(environment: Environment) -> None:
    """Every answer and its connection end in the middle."""
    async with environment.fault("cache's answers cut"):
        environment.required_proxy.is_cutting = True
        await environment.calm(environment.fault_s)
        environment.required_proxy.is_cutting = False
    await environment.calm(RETURN_S)


async def full(environment: Environment) -> None:
    """A publish exceeds maxmemory: it must fail, the old generation must serve, and the next publish must succeed."""
    async with environment.fault("cache full"):
        await environment.cache.fill(SPARE_BYTES)
        try:
            await environment.publish()
            environment.problems.append("publish into a full cache: got success, expected an error")
        except (PublishError, CacheUnavailableError) as error:
            environment.abuses[f"publish into a full cache: {type(error).__name__}"] += 1
        await environment.calm(environment.fault_s)
        await environment.cache.fill(0)
    if not await environment.serves(await environment.publish()):
        environment.problems.append(
            "a generation published after the cache was full does not serve"
        )


async def emptied(environment: Environment) -> None:
    """The cache restarts empty: all users are answered from the cold-start state until the next publish."""
    async with environment.fault("cache emptied"):
        await environment.cache.empty()
        await environment.calm(environment.fault_s)
        await environment.publish()
    await environment.calm(RETURN_S)


async def corrupted(environment: Environment) -> None:
    """Records are overwritten: with a flipped bit, half of the record, another user's, or no record at all."""
    generation = environment.published
    records = environment.records_of(generation)
    users = list(records)
    bad = {}
    for number, user in enumerate(users):
        good = records[user]
        damages = (
            damaged(good),
            good[: len(good) // 2],
            records[users[number - 1]],
            b"no record",
        )
        bad[generation.key(user)] = damages[number % len(damages)]
    async with environment.fault("records corrupted"):
        await environment.cache.put(bad)
        await environment.calm(environment.fault_s)
        await environment.cache.put({generation.key(user): raw for user, raw in records.items()})
    await environment.calm(RETURN_S)


async def kept(environment: Environment) -> None:
    """SIGKILL the cache: users in the host tier are still answered from their records."""
    await environment.calm(ALL_USERS_S)
    started_s = time.monotonic()
    async with environment.fault("cache killed behind the host tier"):
        environment.cache.kill()
        await environment.calm(environment.fault_s)
        await environment.cache.start()
    meanwhile = [o for o in environment.outcomes if o.is_known and o.sent_s > started_s]
    hits = sum(outcome.is_hit for outcome in meanwhile)
    if 2 * hits < len(meanwhile):
        environment.problems.append(
            f"host tier: got {hits} hits of {len(meanwhile)} answers, expected at least half"
        )
    await environment.calm(RETURN_S)


UNAVAILABLE = frozenset({"unavailable"})
MISS = frozenset({"miss"})
CORRUPT = frozenset({"corrupt"})
NO_HOST_TIER = {"ABSORB_HOST_CACHE_BYTES": "0"}
"""Every request reads the cache. With the host tier, most requests would not."""
CACHE_FAULTS = (
    Scenario(
        "cache-killed",
        "SIGKILL the cache, start it again",
        killed,
        UNAVAILABLE,
        UNAVAILABLE,
        settings=NO_HOST_TIER,
    ),
    Scenario(
        "cache-paused",
        "SIGSTOP the cache, then SIGCONT",
        paused,
        UNAVAILABLE,
        UNAVAILABLE,
        settings=NO_HOST_TIER,
    ),
    Scenario(
        "cache-slow",
        "the cache answers too late",
        slow,
        UNAVAILABLE,
        UNAVAILABLE,
        settings=NO_HOST_TIER,
        with_proxy=True,
    ),
    Scenario(
        "cache-cut",
        "the cache's answers are cut",
        cut,
        UNAVAILABLE,
        UNAVAILABLE,
        settings=NO_HOST_TIER,
        with_proxy=True,
    ),
    Scenario(
        "cache-emptied",
        "the cache restarts empty",
        emptied,
        UNAVAILABLE | MISS,
        MISS,
        settings=NO_HOST_TIER,
    ),
    Scenario(
        "records-corrupted",
        "records are overwritten in place",
        corrupted,
        CORRUPT,
        CORRUPT,
        settings=NO_HOST_TIER,
    ),
    Scenario("cache-full", "a publish exceeds maxmemory", full),
    Scenario("host-tier", "SIGKILL the cache: users in the host tier stay hits", kept, UNAVAILABLE),
)
