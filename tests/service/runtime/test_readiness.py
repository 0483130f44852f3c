"""Readiness: threads that hang, old results, draining."""

import pytest

from service.errors import NotReadyError
from service.runtime.readiness import STUCK_S, Readiness
from service.runtime.workers import Workers
from tests.service.toy import Toy
from tests.service.world import World, busy

pytestmark = pytest.mark.anyio


async def test_a_process_whose_threads_hang_is_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    monkeypatch.setattr("service.runtime.readiness.LIMIT_S", 0.05)
    async with world.service() as service:
        well = await service.ready()
        with busy(service):
            hung = await service.ready()
            live = await service.client.get("/health/live")
            monkeypatch.setattr("service.runtime.readiness.STUCK_S", -1.0)
            stuck = await service.client.get("/health/ready")
            monkeypatch.setattr("service.runtime.readiness.STUCK_S", STUCK_S)
        again = await service.ready()
    assert (well.status_code, hung.status_code, stuck.status_code) == (200, 503, 503)
    assert hung.json()["error"] == "not ready: no score in 0.05 s"
    assert "a thread has been scoring for" in stuck.json()["error"]
    assert (live.status_code, again.status_code) == (200, 200)


async def test_an_old_result_and_draining_mean_not_ready(monkeypatch: pytest.MonkeyPatch):
    async def well() -> None:
        pass

    workers = Workers(1)
    readiness = Readiness(well, workers)
    with pytest.raises(NotReadyError, match="no score was tried yet"):
        readiness.check()
    await readiness.look()
    readiness.check()
    monkeypatch.setattr("service.runtime.readiness.MAX_AGE_S", -1.0)
    with pytest.raises(NotReadyError, match="the latest score was tried"):
        readiness.check()
    readiness.drain()
    with pytest.raises(NotReadyError, match="draining"):
        readiness.check()
    workers.shutdown()
