"""Play a scenario: set the stage, warm up, break things in rounds under load, collect the evidence."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from loadtest.chaos.cast import Cast
from loadtest.chaos.counters import problems_of
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.stage import Stage, on_stage, steady_load
from loadtest.chaos.verdict import Evidence

FAULT_S = 3.0
QUICK_FAULT_S = 1.0
WARM_UP_S = 2.0
QUICK_WARM_UP_S = 0.5
UNEXPECTED = ("request failed", "Traceback", "Exception in ASGI", "poll failed")
"""In the service's log: something that nobody expected."""


async def play(
    scenario: Scenario, cast: Cast, folder: Path, is_quick: bool, settings: Mapping[str, str]
) -> Evidence:
    """Play one scenario over a cache and a service of its own.

    Args:
        scenario: what breaks.
        cast: artifacts, records, questions.
        folder: for logs; emptied first.
        is_quick: fewer rounds, shorter faults.
        settings: variables of the service, beside the scenario's.

    Raises:
        NotReadyError: the service does not start, or not again.
        CacheUnavailableError: the cache does not start, or not again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    variables = {**settings, **scenario.settings}
    fault_s = QUICK_FAULT_S if is_quick else FAULT_S
    async with on_stage(cast, folder, variables, fault_s, scenario.with_proxy) as stage:
        async with steady_load(stage, scenario.rate_per_s):
            await stage.calm(QUICK_WARM_UP_S if is_quick else WARM_UP_S)
            for _ in range(scenario.quick_rounds if is_quick else scenario.rounds):
                await scenario.play(stage)
                stage.memory.append(stage.service.resident_bytes())
            await stage.calm(QUICK_WARM_UP_S)
        return await _evidence(scenario, stage)


async def _evidence(scenario: Scenario, stage: Stage) -> Evidence:
    counters = await stage.metrics()
    log = stage.service.log()
    odd = [f"the log has {log.count(text)} × {text!r}" for text in UNEXPECTED if text in log]
    return Evidence(
        scenario.name,
        scenario.sources,
        stage.asked,
        stage.generations,
        stage.faults,
        stage.downtimes,
        stage.memory,
        stage.abuses,
        [*stage.problems, *problems_of(counters), *odd],
        scenario.felt,
    )
