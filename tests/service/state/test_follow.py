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
