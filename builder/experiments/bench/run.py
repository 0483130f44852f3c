"""`absorb bench`: time to encode a history and to score a slate, every model in the runtime that serves it.

The graphs are those that `export` makes, for the default recipe's inputs, with random weights and inputs (times do not
depend on them). All models share embeddings, short-term interest and head.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.experiments.bench.contenders import CONTENDERS, DEFAULT, ITEMS, build_contender
from builder.experiments.bench.graph_timing import GraphTimes, state_bytes, time_in_turn
from builder.experiments.bench.plot import plot
from builder.experiments.bench.table import Timing, to_markdown
from builder.experiments.report.markdown import write_report
from builder.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Sizes and models to time.

    Attributes:
        lengths: L of the histories.
        items: in the catalogue.
        slates: numbers of candidates.
        models: names of `CONTENDERS`.
        budget_s: seconds of timed rounds for each length and slate.
    """

    lengths: tuple[int, ...]
    items: int
    slates: tuple[int, ...]
    models: tuple[str, ...]
    budget_s: float


FULL = Plan((500, 2_000, 10_000), ITEMS, (200, 1_000, 3_600), tuple(CONTENDERS), 5.0)
QUICK = Plan((1_100, 1_200), 300, (10, 50), (DEFAULT, "DIN, kernel"), 0.1)


def run_bench(
    out: Path, progress: Progress, header: Mapping[str, str], *, quick: bool
) -> list[Path]:
    """Time everything, write tables, their numbers and a plot; return their paths.

    Args:
        out: folder (made if absent) of `bench.md`, `bench.json` and `bench.png`.
        progress: called after every export and every size.
        header: command and machine (`describe_machine`).
        quick: a few small sizes, as a check; its times mean nothing.
    """
    timings = list(_time_all(QUICK if quick else FULL, progress))
    plain = {**header, "timings": [line.to_dict() for line in timings]}
    picture = out / "bench.png"
    written = write_report(out, "bench", to_markdown(timings, header), plain)
    plot(timings, picture)
    return [*written, picture]


def _time_all(plan: Plan, progress: Progress) -> Iterator[Timing]:
    total = len(plan.lengths) * (len(plan.models) + len(plan.slates))
    done = 0
    for length in plan.lengths:
        contenders = []
        for label in plan.models:
            progress(done, total, f"L = {length:,}: exporting {label}")
            contenders.append(build_contender(label, length, plan.items))
            done += 1
        records = [state_bytes(contender, "fp16") for contender in contenders]
        all_times = time_in_turn(contenders, plan.slates, threads=1, budget_s=plan.budget_s)
        for slate in plan.slates:
            progress(done, total, f"L = {length:,}: {slate:,} candidates")
            times: list[GraphTimes] = next(all_times)
            for label, own, record in zip(plan.models, times, records, strict=True):
                logger.info("%s, L %d, B %d: %.2f ms", label, length, slate, own.median_ms)
                yield Timing(label, length, slate, record, own)
            done += 1
    progress(total, total)
