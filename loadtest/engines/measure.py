"""Times of ONNX Runtime and of the native engine, call by call in turn, and the kernel's share of the CPU's peak."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadtest.engines.inputs import filled_slots
from models.contract.plan import PlanSizes
from service.errors import ScoreError
from service.native.library import Library
from service.runtime.engines.engine import Engine, EngineSlate, Logits
from service.runtime.engines.native.engine import ISAS, Isa, NativeEngine, bind

BASELINE = "onnxruntime"
PEAK_ROUNDS = 200_000
PEAK_TRIES = 25
Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """What one contender did with one kind of slates.

    Attributes:
        candidates: B.
        slots: "as recorded" or "all filled".
        filled: mean number of filled slots.
        engine: contender.
        p50_us: median time of a call.
        low_us: 10th percentile.
        high_us: 90th percentile.
        ratio: median over rounds of ONNX Runtime's median over this one's.
        ratio_low: smallest of the rounds.
        ratio_high: largest of the rounds.
        difference: largest difference of a probability from ONNX Runtime's.
        percent_of_peak: part of the kernel ("attention", "head", "all") -> arithmetic done, in percent of the peak.
    """

    candidates: int
    slots: str
    filled: float
    engine: str
    p50_us: float
    low_us: float
    high_us: float
    ratio: float
    ratio_low: float
    ratio_high: float
    difference: float
    percent_of_peak: Mapping[str, float]


def peak_gflops(library: Library, isa: Isa) -> float:
    """Multiply-adds of a loop in registers, in GFLOP/s: the best of some tries."""
    sink = np.array([0.999, 1e-3, 0.0], np.float32)
    peak, best = bind(library.handle).absorb_peak, 0.0
    for _ in range(PEAK_TRIES):
        start = time.perf_counter()
        operations = peak(ISAS.index(isa), PEAK_ROUNDS, sink.ctypes.data)
        best = max(best, operations / (time.perf_counter() - start))
    return best / 1e9


def part_flops(sizes: PlanSizes, slots: int, recent: int, candidates: int) -> dict[str, float]:
    """Multiplications and additions that the kernel needs; exponentials and divisions are not counted."""
    attention = 0
    for keys, heads in ((slots, sizes.heads), (recent, sizes.short_heads)):
        attention += keys * (sizes.dim + len(sizes.widths) * heads + heads * (sizes.dim + 1))
    widths = (sizes.candidate_inputs, *sizes.layers, 1)
    head = sum(narrow * wide for narrow, wide in pairwise(widths))
    return {"attention": 2.0 * attention * candidates, "head": 2.0 * head * candidates}


def measure(
    contenders: Mapping[str, Engine],
    slates: Sequence[EngineSlate],
    slots: str,
    rounds: int,
    peaks: Mapping[str, float],
    sizes: PlanSizes,
) -> list[Cell]:
    """Time each contender on each slate in each round, one after the other.

    Args:
        contenders: name -> engine; `BASELINE` is one of them.
        slates: all with as many candidates.
        slots: what the slots of the slates are.
        rounds: number of rounds.
        peaks: contender -> GFLOP/s of its instruction set.
        sizes: of the plan.

    Raises:
        ScoreError: a contender did not score a slate.
    """
    expected = [_logits(contenders[BASELINE], slate) for slate in slates]
    differences = {
        name: max(
            _difference(_logits(engine, slate), logits)
            for slate, logits in zip(slates, expected, strict=True)
        )
        for name, engine in contenders.items()
    }
    times = _times(contenders, slates, rounds)
    base = np.median(times[BASELINE], 1)
    cells = []
    for name, engine in contenders.items():
        low, p50, high = 1e6 * np.percentile(times[name], (10, 50, 90))
        ratios = base / np.median(times[name], 1)
        is_native = isinstance(engine, NativeEngine)
        percent = _percent(engine, slates, sizes, peaks[name]) if is_native else {}
        cells.append(
            Cell(
                len(slates[0].items), slots, float(np.mean([filled_slots(s) for s in slates])), name,
                float(p50), float(low), float(high), float(np.median(ratios)), float(ratios.min()),
                float(ratios.max()), differences[name], percent,
            )
        )  # fmt: skip
    return cells


def _times(
    contenders: Mapping[str, Engine], slates: Sequence[EngineSlate], rounds: int
) -> dict[str, Seconds]:
    """Seconds of each call, [rounds, slates]; the order of the contenders is turned from call to call."""
    times = {name: np.empty((rounds, len(slates))) for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for at, slate in enumerate(slates):
            for name in names:
                engine = contenders[name]
                start = time.perf_counter()
                engine.score_many([slate])
                times[name][turn, at] = time.perf_counter() - start
            names.append(names.pop(0))
    return times


def _percent(
    engine: Engine, slates: Sequence[EngineSlate], sizes: PlanSizes, peak: float
) -> dict[str, float]:
    """Percent of the peak of attention, head and the whole call: of each slate the best of three, summed."""
    if not isinstance(engine, NativeEngine):
        raise TypeError(f"engine: got {engine.name}, expected the native one")
    seconds, flops = np.zeros(3), {"attention": 0.0, "head": 0.0}
    for slate in slates:
        seconds += np.min([engine.timed(slate)[1] for _ in range(3)], 0)
        recent = int(np.count_nonzero(slate.recent[-sizes.recent :]))
        parts = part_flops(sizes, filled_slots(slate), recent, len(slate.items))
        flops = {name: flops[name] + parts[name] for name in flops}
    done = {"attention": (flops["attention"], seconds[1]), "head": (flops["head"], seconds[2])}
    done["all"] = (sum(flops.values()), float(seconds.sum()))
    return {name: 100 * count / spent / 1e9 / peak for name, (count, spent) in done.items()}


def _logits(engine: Engine, slate: EngineSlate) -> Logits:
    (logits,) = engine.score_many([slate])
    if isinstance(logits, ScoreError):
        raise logits
    return logits


def _difference(got: Logits, expected: Logits) -> float:
    p, q = (1 / (1 + np.exp(-logits.astype(np.float64))) for logits in (got, expected))
    return float(np.abs(p - q).max())
