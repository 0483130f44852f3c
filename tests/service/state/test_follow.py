"""What workers say of themselves becomes metrics of the service."""

import pytest

from models.live.follow_status import FollowStatus
from models.live.keys import FOLLOW_KEY
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio


async def test_the_workers_status_is_exported_and_disappears_with_them(world: World):
    world.publish(Toy())
    async with world.service() as service:
        follow = service.dependencies.tiers.follow
        await follow.read()
        assert service.metric("absorb_follow_running") == 0
        status = FollowStatus(AS_OF_S - 4, "1-0", 2.5, 7, 9, {"toy": 3})
        world.put(FOLLOW_KEY, status.to_bytes())
        await follow.read()
        names = ("running", "lag_seconds", "waiting_events", "status_age_seconds")
        assert [service.metric(f"absorb_follow_{name}") for name in names] == [1, 2.5, 7, 4]
        assert service.metric("absorb_follow_behind_users", model="toy") == 3
        for wrong in (b"{", b"[]", b'{"at_s": "x"}'):
            world.put(FOLLOW_KEY, wrong)
            await follow.read()
            assert follow.status is None


async def test_answers_say_how_far_states_are_behind(world: World):
    world.publish(Toy())
    body = {"inputs": [
        {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["ann"]},
        {"name": "candidates", "datatype": "BYTES", "shape": [1], "data": ["i1"]},
    ]}  # fmt: skip
    async with world.service() as service:
        follow = service.dependencies.tiers.follow

        async def told(status: FollowStatus | None) -> tuple[object, dict[str, object]]:
            world.put(FOLLOW_KEY, status.to_bytes() if status else b"")
            await follow.read()
            answer = await service.client.post("/v2/models/toy/infer", json=body)
            parameters = answer.json()["parameters"]
            told = {name: value for name, value in parameters.items() if name.startswith("states")}
            return (await service.score())["freshness"], told

        assert await told(None) == (None, {})
        assert await told(FollowStatus(AS_OF_S, "1-0", 0.5, 0, 9, {"other": 0})) == (None, {})
        fresh = {"lag_s": 0.5, "waiting_events": 0, "complete": True}
        told_v2 = {"states_complete": True, "states_lag_ms": 500}
        assert await told(FollowStatus(AS_OF_S, "1-0", 0.5, 0, 9, {"toy": 0})) == (fresh, told_v2)
        for backlog, behind in ((3, 0), (0, 3), (None, 0)):
            status = FollowStatus(AS_OF_S, "1-0", 0.5, backlog, 9, {"toy": behind})
            behind_fresh = {**fresh, "waiting_events": backlog, "complete": False}
            assert await told(status) == (behind_fresh, {**told_v2, "states_complete": False})
