"""The cache fails: killed, stopped, slow, cut, full, emptied, or holding what is no record."""

import time

from builder.errors import PublishError
from loadtest.chaos.environment import Environment, damaged
from loadtest.chaos.scenario import Scenario
from models.contract.errors import CacheUnavailableError

SLOW_S = 2.0
"""Delay of every answer of the cache, beyond the service's patience."""
SPARE_BYTES = 4096
"""Memory left in a full cache: less than a generation takes."""
RETURN_S = 0.3
EVERYBODY_S = 2.5
"""In which the load asks for every user."""


async def killed(environment: Environment) -> None:
    """SIGKILL, and a start with what was on the disk."""
    async with environment.fault("cache killed"):
        environment.cache.kill()
        await environment.calm(environment.fault_s)
        await environment.cache.start()
    await environment.calm(RETURN_S)


async def paused(environment: Environment) -> None:
    """Connections stay open, and nothing answers."""
    async with environment.fault("cache paused"):
        environment.cache.pause()
        await environment.calm(environment.fault_s)
        environment.cache.go_on()
    await environment.calm(RETURN_S)


async def slow(environment: Environment) -> None:
    """Every answer comes, too late."""
    async with environment.fault("cache slow"):
        environment.wire.delay_s = SLOW_S
        await environment.calm(environment.fault_s)
        environment.wire.delay_s = 0.0
    await environment.calm(RETURN_S)


async def cut(environment: Environment) -> None:
    """Every answer breaks off in its middle, and the connection with it."""
    async with environment.fault("cache's answers cut"):
        environment.wire.is_cutting = True
        await environment.calm(environment.fault_s)
        environment.wire.is_cutting = False
    await environment.calm(RETURN_S)


async def full(environment: Environment) -> None:
    """A publish runs into maxmemory: it has to fail, the old generation has to serve, and the next one succeeds."""
    async with environment.fault("cache full"):
        await environment.cache.fill(SPARE_BYTES)
        try:
            await environment.publish()
            environment.problems.append("a publish into a full cache was not refused")
        except (PublishError, CacheUnavailableError) as error:
            environment.abuses[f"publish into a full cache: {type(error).__name__}"] += 1
        await environment.calm(environment.fault_s)
        await environment.cache.fill(0)
    if not await environment.serves(await environment.publish()):
        environment.problems.append(
            "a generation published after the cache was full does not serve"
        )


async def emptied(environment: Environment) -> None:
    """It comes back with nothing: everybody is answered from the cold-start state until the next publish."""
    async with environment.fault("cache emptied"):
        await environment.cache.forget()
        await environment.calm(environment.fault_s)
        await environment.publish()
    await environment.calm(RETURN_S)


async def corrupted(environment: Environment) -> None:
    """Records are overwritten in place: a flipped bit, half of one, another user's, and no record at all."""
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
    """SIGKILL: users whom the host tier holds go on being answered from their records."""
    await environment.calm(EVERYBODY_S)
    started_s = time.monotonic()
    async with environment.fault("cache killed behind the host tier"):
        environment.cache.kill()
        await environment.calm(environment.fault_s)
        await environment.cache.start()
    meanwhile = [one for one in environment.outcomes if one.is_known and one.sent_s > started_s]
    hits = sum(one.is_hit for one in meanwhile)
    if 2 * hits < len(meanwhile):
        environment.problems.append(f"the host tier kept {hits} of {len(meanwhile)} answers")
    await environment.calm(RETURN_S)


UNAVAILABLE = frozenset({"unavailable"})
MISS = frozenset({"miss"})
CORRUPT = frozenset({"corrupt"})
NO_HOST_TIER = {"ABSORB_HOST_CACHE_BYTES": "0"}
"""Every request reads the cache: with the host tier on, most users would not notice that it is gone."""
CACHE_FAULTS = (
    Scenario(
        "cache-killed", "SIGKILL the cache, start it again", killed,
        UNAVAILABLE, UNAVAILABLE, settings=NO_HOST_TIER,
    ),
    Scenario(
        "cache-paused", "SIGSTOP the cache, then SIGCONT", paused,
        UNAVAILABLE, UNAVAILABLE, settings=NO_HOST_TIER,
    ),
    Scenario(
        "cache-slow", "its answers come too late", slow,
        UNAVAILABLE, UNAVAILABLE, settings=NO_HOST_TIER, with_proxy=True,
    ),
    Scenario(
        "cache-cut", "its answers break off", cut,
        UNAVAILABLE, UNAVAILABLE, settings=NO_HOST_TIER, with_proxy=True,
    ),
    Scenario(
        "cache-emptied", "it restarts with nothing in it", emptied,
        UNAVAILABLE | MISS, MISS, settings=NO_HOST_TIER,
    ),
    Scenario(
        "records-corrupted", "records are overwritten in place", corrupted,
        CORRUPT, CORRUPT, settings=NO_HOST_TIER,
    ),
    Scenario("cache-full", "a publish runs into maxmemory", full),
    Scenario("host-tier", "SIGKILL the cache: users in the host tier stay hits", kept, UNAVAILABLE),
)  # fmt: skip
