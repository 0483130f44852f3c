"""What workers say of themselves becomes metrics of the service."""

import asyncio

import pytest

from models.live.follow_status import FollowStatus, write_status
from models.live.keys import FOLLOWERS_KEY, follower_key
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio


def report(world: World, **statuses: FollowStatus) -> None:
    """Each worker's status, and none of others."""
    with world.redis as client:
        client.delete(FOLLOWERS_KEY)
        for name, status in statuses.items():
            write_status(client, name, status)


async def test_the_workers_status_is_exported_and_disappears_with_them(world: World):
    world.publish(Toy())
    async with world.service() as service:
        follow = service.dependencies.tiers.follow
        await follow.read()
        assert service.metric("absorb_follow_running") == 0
        report(
            world,
            one=FollowStatus(AS_OF_S - 4, "1-0", 2.5, 7, 9, {"toy": 3}),
            two=FollowStatus(AS_OF_S - 1, "2-0", 0.0, 6, 2, {"toy": 0}),
        )
        await follow.read()
        names = ("running", "lag_seconds", "waiting_events", "status_age_seconds")
        assert [service.metric(f"absorb_follow_{name}") for name in names] == [2, 2.5, 7, 4]
        assert service.metric("absorb_follow_behind_users", model="toy") == 3
        with world.redis as client:
            client.delete(follower_key("one"))  # as the cache does when it expires
        await follow.read()
        assert [service.metric(f"absorb_follow_{name}") for name in names] == [1, 0, 6, 1]
        for wrong in (b"{", b"[]", b'{"at_s": "x"}'):
            world.put(follower_key("two"), wrong)
            await follow.read()
            assert follow.status is None
        with world.redis as client:
            client.set(FOLLOWERS_KEY, b"no set")
        await follow.read()
        assert follow.status is None


async def test_a_running_service_reads_the_status_by_itself(world: World):
    world.publish(Toy())
    report(world, one=FollowStatus(AS_OF_S, "1-0", 0.5, 0, 9, {"toy": 0}))
    async with world.service(poll_interval_s=0.05) as service:
        app = service.app
        async with app.router.lifespan_context(app), asyncio.timeout(30):
            while (await service.score())["freshness"] is None:
                await asyncio.sleep(0.02)
            assert service.metric("absorb_follow_running") == 1


async def test_answers_say_how_far_states_are_behind(world: World):
    world.publish(Toy())
    body = {"inputs": [
        {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["ann"]},
        {"name": "candidates", "datatype": "BYTES", "shape": [1], "data": ["i1"]},
    ]}  # fmt: skip
    async with world.service() as service:
        follow = service.dependencies.tiers.follow

        async def told(*statuses: FollowStatus) -> tuple[object, dict[str, object]]:
            report(world, **{f"w{place}": status for place, status in enumerate(statuses)})
            await follow.read()
            answer = await service.client.post("/v2/models/toy/infer", json=body)
            parameters = answer.json()["parameters"]
            told = {name: value for name, value in parameters.items() if name.startswith("states")}
            return (await service.score())["freshness"], told

        assert await told() == (None, {})
        assert await told(FollowStatus(AS_OF_S, "1-0", 0.5, 0, 9, {"other": 0})) == (None, {})
        fresh = {"lag_s": 0.5, "waiting_events": 0, "complete": True}
        told_v2 = {"states_complete": True, "states_lag_ms": 500}
        idle = FollowStatus(AS_OF_S, "1-0", 0.5, 0, 9, {"toy": 0})
        assert await told(idle) == await told(idle, idle) == (fresh, told_v2)
        for backlog, behind in ((3, 0), (0, 3), (None, 0)):
            status = FollowStatus(AS_OF_S, "1-0", 0.5, backlog, 9, {"toy": behind})
            behind_fresh = {**fresh, "waiting_events": backlog, "complete": False}
            expected = behind_fresh, {**told_v2, "states_complete": False}
            assert await told(status) == await told(status, idle) == expected
