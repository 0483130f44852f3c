"""The service itself ends under load: killed, or told to stop."""

import time

from loadtest.chaos.scenario import Scenario
from loadtest.chaos.stage import Stage


async def killed(stage: Stage) -> None:
    """SIGKILL, and a new process on the same port."""
    started_s = time.monotonic()
    async with stage.fault("service killed"):
        stage.service.kill()
        await stage.calm(stage.fault_s / 3)
        stage.service.launch()
    await stage.is_back(started_s, is_kill=True)
    await stage.calm(stage.fault_s)


async def drained(stage: Stage) -> None:
    """SIGTERM: what is in flight is answered, and the process ends; then a new one."""
    started_s = time.monotonic()
    async with stage.fault("service drained"):
        took_s = await stage.service.drain()
        stage.abuses[f"drained in {took_s:.0f} s"] += 1
        stage.service.launch()
    await stage.is_back(started_s, is_kill=False)
    await stage.calm(stage.fault_s)


PROCESS_FAULTS = (
    Scenario("service-killed", "SIGKILL the service, start it again", killed, rate_per_s=60),
    Scenario("service-drained", "SIGTERM the service, start it again", drained, rate_per_s=60),
)
