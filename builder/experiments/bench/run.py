"""python -m builder bench: time to score one user's slate, every model in the runtime that serves them.

The graphs are those that `export` makes, with random weights (the time does not depend on them) and random inputs from
a catalogue of a few thousand items. All models share embeddings, attention block, short-term history and head.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from builder.experiments.bench.graph_timing import Contender
from builder.experiments.bench.plot import plot
from builder.experiments.bench.table import to_markdown
from builder.experiments.bench.timing import (
    CONTENDERS,
    Size,
    Timing,
    build_contender,
    time_together,
)
from builder.experiments.report.markdown import write_report
from builder.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Sizes and models to time.

    Attributes:
        main: the size that the sweeps start from.
        sweeps: axis of `Size` -> its values; the other axes stay as in `main`.
        models: names of `CONTENDERS`.
        threads: of the runtime; the sweeps use the first, the main size is timed with each.
        budget_s: time for the timed rounds of one size.
    """

    main: Size
    sweeps: Mapping[str, tuple[int, ...]]
    models: tuple[str, ...]
    threads: tuple[int, ...]
    budget_s: float


FULL = Plan(
    main=Size(length=10_000, candidates=1_000, rank=128, dim=16),
    sweeps={
        "length": (100, 1_000, 10_000),
        "candidates": (10, 30, 100, 300, 1_000, 5_000),
        "rank": (16, 32, 64, 128, 256, 512),
        "dim": (8, 16, 32, 64),
    },
    models=tuple(CONTENDERS),
    threads=(1, 2),
    budget_s=2.0,
)
QUICK = Plan(
    main=Size(length=400, candidates=50, rank=8, dim=8),
    sweeps={"length": (400,), "candidates": (10, 50), "rank": (8,), "dim": (8,)},
    models=("LREA, hash slots", "DIN"),
    threads=(1,),
    budget_s=0.2,
)
CORE = ("LREA, position slots", "LREA, hash slots", "DIN", "no long history")
OTHERS = tuple(model for model in CONTENDERS if model not in CORE)
UNAFFECTED = {
    "length": ("no long history",),
    "rank": ("DIN", "no long history", *OTHERS),
    "candidates": OTHERS,
    "dim": OTHERS,
}
"""Axis -> models that are not timed along it: they do not depend on it, or (`OTHERS`) vary the history length only."""


def make_plan(*, quick: bool, axes: Sequence[str] = ()) -> Plan:
    """The full or the quick plan, with the sweeps of `axes` only; empty: all."""
    plan = QUICK if quick else FULL
    return replace(plan, sweeps={axis: plan.sweeps[axis] for axis in axes or plan.sweeps})


def run_bench(
    out: Path,
    progress: Progress,
    header: Mapping[str, str],
    *,
    quick: bool,
    axes: Sequence[str] = (),
) -> list[Path]:
    """Time everything, write a table, its numbers and a plot; return their paths.

    Args:
        out: folder (made if absent) of `bench.md`, `bench.json` and `bench.png`.
        progress: called after every size.
        header: command and machine (`describe_machine`).
        quick: a few small sizes, as a check; its times mean nothing.
        axes: fields of `Size` to vary; empty: all.
    """
    plan = make_plan(quick=quick, axes=axes)
    timings = list(_time_all(plan, progress))
    plain = {**header, "main": asdict(plan.main), "timings": [line.to_dict() for line in timings]}
    text, picture = to_markdown(timings, plan.main, plan.sweeps, header), out / "bench.png"
    written = write_report(out, "bench", text, plain)
    plot(timings, plan.main, plan.sweeps, picture)
    return [*written, picture]


def _time_all(plan: Plan, progress: Progress) -> Iterator[Timing]:
    cases = list(_cases(plan))
    built: dict[tuple[str, Size], Contender] = {}
    for done, (size, threads, models) in enumerate(cases):
        progress(done, len(cases), f"{size}, {threads} thread(s)")
        chosen = []
        for model in models:
            key = (model, replace(size, candidates=0))  # one graph takes any number of candidates
            if key not in built:
                built[key] = build_contender(model, size)
            chosen.append(built[key])
        for timing in time_together(chosen, size, threads, plan.budget_s):
            logger.info("%s at %s: %.2f ms", timing.model, size, timing.times.median_ms)
            yield timing
    progress(len(cases), len(cases))


def _cases(plan: Plan) -> Iterator[tuple[Size, int, Iterable[str]]]:
    """Each size once: the main size with each number of threads, then the sweeps around it."""
    for threads in plan.threads:
        yield plan.main, threads, plan.models
    for axis, values in plan.sweeps.items():
        models = [name for name in plan.models if name not in UNAFFECTED.get(axis, ())]
        for value in values:
            size = replace(plan.main, **{axis: value})
            if size != plan.main:
                yield size, plan.threads[0], models
