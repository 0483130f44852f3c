"""Soak test: many model swaps under light load. Memory and p99 must not grow."""

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from loadtest.chaos.counters import problems_of
from loadtest.chaos.environment import Environment, running_environment, steady_load
from loadtest.chaos.fixtures import Fixtures
from loadtest.chaos.memory import RETURNED, growth, leak
from loadtest.chaos.outcome import Outcome
from loadtest.chaos.verdict import Evidence, conclude

SWAPS = "swaps"
RATE_PER_S = 20.0
WARM_UP_SHARE = 0.1
"""Share of the swaps that is ignored before memory and latency are compared."""
PARTS = 5
P99_LIMIT = 1.5
"""Largest allowed ratio of the last part's p99 to the first part's."""
SETTINGS = {"ABSORB_POLL_INTERVAL_S": "0.02", **RETURNED}


@dataclass(frozen=True)
class Soak:
    """Results of the swaps.

    Attributes:
        memory: bytes of the service after each swap.
        p99_ms: p99 of each part of the run without the warm-up.
        broken: rules that did not hold.
    """

    swaps: int
    requests: int
    seconds: float
    memory: list[int]
    memory_growth: float
    p99_ms: list[float]
    broken: list[str]


def swaps(fixtures: Fixtures, out: Path, count: int, console: Console) -> int:
    """Run the soak test, print and write its figures; return the exit code."""
    soak = asyncio.run(_soak(fixtures, out / SWAPS, count, console))
    (out / "swaps.json").write_text(json.dumps(asdict(soak)))
    console.print(
        f"{soak.swaps:,} swaps in {soak.seconds:.0f} s under {soak.requests:,} requests: memory "
        f"{soak.memory[0] / (1 << 20):.0f} → {soak.memory[-1] / (1 << 20):.0f} MiB "
        f"({100 * (soak.memory_growth - 1):+.1f}% after warm-up), p99 by fifths "
        f"{', '.join(f'{ms:.1f}' for ms in soak.p99_ms)} ms: "
        f"{'; '.join(soak.broken) or 'passed'}",
        soft_wrap=True,
    )
    return 1 if soak.broken else 0


async def _soak(fixtures: Fixtures, folder: Path, count: int, console: Console) -> Soak:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started_s = time.monotonic()
    async with running_environment(
        fixtures, folder, SETTINGS, fault_s=0.0, with_proxy=False
    ) as environment:
        async with steady_load(environment, RATE_PER_S):
            for _ in track(range(count), "swaps", console=console):
                await _swap(environment)
        counters = problems_of(await environment.metrics())
    evidence = Evidence(
        SWAPS,
        frozenset(),
        environment.outcomes,
        environment.generations,
        problems=[*environment.problems, *counters],
    )
    settled = environment.memory[int(WARM_UP_SHARE * count) :]
    p99_ms = p99_by_part(environment.outcomes)
    problems = [leak(settled), slower(p99_ms)]
    return Soak(
        count,
        len(environment.outcomes),
        time.monotonic() - started_s,
        settled,
        growth(settled),
        p99_ms,
        [*conclude(evidence).broken, *(problem for problem in problems if problem)],
    )


async def _swap(environment: Environment) -> None:
    generation = await environment.publish()
    if not await environment.serves(generation):
        environment.problems.append(f"{generation.name} was published and does not serve")
    environment.memory.append(environment.service.resident_bytes())


def p99_by_part(outcomes: Sequence[Outcome]) -> list[float]:
    """p99 in milliseconds of each part in order, without the warm-up."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.sent_s)
    took_ms = [1000 * (o.ended_s - o.sent_s) for o in ordered if o.status == 200]
    settled = took_ms[int(WARM_UP_SHARE * len(took_ms)) :]
    parts = np.array_split(np.array(settled), PARTS)
    return [float(np.percentile(part, 99)) if len(part) else 0.0 for part in parts]


def slower(p99_ms: Sequence[float]) -> str:
    """Why the latency is not flat; empty if it is."""
    if p99_ms[-1] <= P99_LIMIT * p99_ms[0]:
        return ""
    return f"p99 went from {p99_ms[0]:.1f} to {p99_ms[-1]:.1f} ms, more than {P99_LIMIT} times"
