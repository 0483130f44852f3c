"""Faults of the service process: killed, or drained."""

import time

from loadtest.chaos.environment import Environment
from loadtest.chaos.scenario import Scenario


async def killed(environment: Environment) -> None:
    """SIGKILL the service, then start a new process on the same port."""
    started_s = time.monotonic()
    async with environment.fault("service killed"):
        environment.service.kill()
        await environment.calm(environment.fault_s / 3)
        environment.service.launch()
    await environment.wait_until_restarted(started_s, is_kill=True)
    await environment.calm(environment.fault_s)


async def drained(environment: Environment) -> None:
    """SIGTERM the service: it must be unready at once, serve during the delay, and answer what is in flight."""
    async with environment.fault("service drained"):
        environment.service.terminate()
        closing_s = time.monotonic() + DRAIN_DELAY_S
        await environment.calm(DRAIN_DELAY_S / 2)
        if (status := await environment.service.readiness()) != NOT_READY:
            environment.problems.append(
                f"readiness of a draining service: got {status}, expected {NOT_READY}"
            )
        status = await environment.service.wait()
        if status:
            environment.problems.append(
                f"exit status of a drained service: got {status}, expected 0"
            )
        environment.service.launch()
    await environment.wait_until_restarted(closing_s, is_kill=False)
    await environment.calm(environment.fault_s)


DRAIN_DELAY_S = 1.5
NOT_READY = 503
PROCESS_FAULTS = (
    Scenario("service-killed", "SIGKILL the service, start it again", killed, rate_per_s=60),
    Scenario(
        "service-drained",
        "SIGTERM the service, start it again",
        drained,
        rate_per_s=60,
        settings={"ABSORB_DRAIN_DELAY_S": str(DRAIN_DELAY_S)},
    ),
)
