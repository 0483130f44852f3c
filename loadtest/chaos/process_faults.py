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
    """SIGTERM: not ready at once, all served during the delay, what is in flight answered; then a new process."""
    async with stage.fault("service drained"):
        stage.service.ask_to_end()
        closing_s = time.monotonic() + DRAIN_DELAY_S
        await stage.calm(DRAIN_DELAY_S / 2)
        if (told := await stage.service.readiness()) != NOT_READY:
            stage.problems.append(f"readiness of a draining service: {told}, expected {NOT_READY}")
        status = await stage.service.end()
        if status:
            stage.problems.append(f"a drained service ended with status {status}, expected 0")
        stage.service.launch()
    await stage.is_back(closing_s, is_kill=False)
    await stage.calm(stage.fault_s)


DRAIN_DELAY_S = 1.5
NOT_READY = 503
PROCESS_FAULTS = (
    Scenario("service-killed", "SIGKILL the service, start it again", killed, rate_per_s=60),
    Scenario(
        "service-drained", "SIGTERM the service, start it again", drained, rate_per_s=60,
        settings={"ABSORB_DRAIN_DELAY_S": str(DRAIN_DELAY_S)},
    ),
)  # fmt: skip
