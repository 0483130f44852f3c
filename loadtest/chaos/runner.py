"""Runs a scenario: start the environment, warm up, run its rounds of faults under load, collect the evidence."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from loadtest.chaos.counters import problems_of
from loadtest.chaos.environment import Environment, running_environment, steady_load
from loadtest.chaos.fixtures import Fixtures
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.verdict import Evidence

FAULT_S = 3.0
QUICK_FAULT_S = 1.0
WARM_UP_S = 2.0
QUICK_WARM_UP_S = 0.5
UNEXPECTED = ("request failed", "Traceback", "Exception in ASGI", "poll failed")
"""Texts that must not be in the service's log."""


async def run_scenario(
    scenario: Scenario,
    fixtures: Fixtures,
    folder: Path,
    is_quick: bool,
    settings: Mapping[str, str],
) -> Evidence:
    """Run one scenario over a cache and a service of its own.

    Args:
        scenario: the scenario.
        fixtures: artifacts, records, queries.
        folder: folder of logs; emptied first.
        is_quick: run fewer rounds and shorter faults.
        settings: environment variables of the service; the scenario's win.

    Raises:
        NotReadyError: the service does not start, or does not restart.
        CacheUnavailableError: the cache does not start, or does not restart.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    variables = {**settings, **scenario.settings}
    fault_s = QUICK_FAULT_S if is_quick else FAULT_S
    async with running_environment(
        fixtures, folder, variables, fault_s, scenario.with_proxy
    ) as environment:
        async with steady_load(environment, scenario.rate_per_s):
            await environment.calm(QUICK_WARM_UP_S if is_quick else WARM_UP_S)
            for _ in range(scenario.quick_rounds if is_quick else scenario.rounds):
                await scenario.run_round(environment)
                environment.memory.append(environment.service.resident_bytes())
            await environment.calm(QUICK_WARM_UP_S)
        return await _evidence(scenario, environment)


async def _evidence(scenario: Scenario, environment: Environment) -> Evidence:
    counters = await environment.metrics()
    log = environment.service.log()
    unexpected = [
        f"log: got {text!r} {log.count(text)} times, expected never"
        for text in UNEXPECTED
        if text in log
    ]
    return Evidence(
        scenario.name,
        scenario.sources,
        environment.outcomes,
        environment.generations,
        environment.faults,
        environment.downtimes,
        environment.memory[scenario.warm_up :],
        environment.abuses,
        [*environment.problems, *problems_of(counters), *unexpected],
        scenario.required,
    )
