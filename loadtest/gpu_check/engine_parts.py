"""The service's engine `torch`: scores, and times with the state on the device and without, beside the device's limits.

On a machine without a GPU its plain torch is compared, and nothing is timed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.inputs import REQUEST, Feed, Inputs
from loadtest.gpu_check.machine import LIMITS
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import NotRunError, Results, read_results
from loadtest.gpu_check.speed import TABLE, row_of, sizes_of
from loadtest.gpu_check.timing import Quantiles, device_us, host_us
from service.runtime.engines.engine import EngineSlate, UnfitError
from service.runtime.engines.torch import open_engine
from service.runtime.engines.torch.engine import TorchEngine
from service.runtime.engines.torch.weights import Sizes

ENGINE = "engine torch"
FILLED = "µs by filled slots"
FLOOR = "bytes and FLOP against the device's limits"
FILLED_SLATE = 1024
FLOAT_BYTES = 4
TF32_TERMS = 3
"""TF32 products in place of one product in fp32."""


def open_or_not_run(inputs: Inputs) -> TorchEngine:
    """The engine.

    Raises:
        NotRunError: it does not fit the artifact or the machine.
    """
    try:
        return open_engine(inputs.artifact, 1)
    except UnfitError as error:
        raise NotRunError(error.detail) from error


def score_feed(engine: TorchEngine, feed: Feed) -> NDArray[np.float32]:
    """Logits of the score graph's inputs, [B, C], with states from the host."""
    logits = engine.score_many(slates_of(feed))
    failed = [error for error in logits if isinstance(error, Exception)]
    if failed:
        raise failed[0]
    return np.stack([row for row in logits if not isinstance(row, Exception)])


def slates_of(feed: Feed) -> list[EngineSlate]:
    """The feed's users, each with its slate."""
    users, candidates = feed["items"].shape
    empty = np.zeros((users, candidates, 0), np.int64)
    fields = feed.get("candidate_fields", empty)
    states = [name for name in feed if name not in REQUEST]
    return [
        EngineSlate(
            {name: feed[name][user] for name in states},
            feed["recent"][user],
            feed["context_fields"][user],
            feed["items"][user],
            fields[user],
        )
        for user in range(users)
    ]


def check_engine(options: Options, results: Results) -> None:
    """Time the engine at each size, with states on the device and on the host, and by the number of filled slots."""
    if options.device != "cuda":
        raise NotRunError("no CUDA device")
    inputs = options.inputs()
    engine = open_or_not_run(inputs)
    limits = _limits(options)
    for size in sizes_of(options):
        feed = inputs.feed(range(size[0]), size[1])
        slates = slates_of(feed)
        times = _times(engine, slates, options.effort.seconds)
        results.add(TABLE, row_of(ENGINE, size, **times))
        work = work_of(slates, engine.sizes)
        results.add(FLOOR, {"users": size[0], "B": size[1], **work, **_floor(work, times, limits)})
    for filled in (0, 64, 366, engine.sizes.slots):
        slates = [_with_filled(slates_of(inputs.feed([0], FILLED_SLATE))[0], filled)]
        times = _times(engine, slates, options.effort.seconds)
        row = row_of(ENGINE, (1, FILLED_SLATE), **times)
        results.add(FILLED, {"filled": min(filled, engine.sizes.slots), **row})


def _times(
    engine: TorchEngine, slates: Sequence[EngineSlate], seconds: float
) -> dict[str, Quantiles]:
    """On the device alone, with states there, and with states on the host."""
    held = [_held(engine, slate) for slate in slates]
    engine.score_many(held)
    launch: Callable[[], None] = engine.load(held)
    with torch.cuda.stream(engine.stream):
        device = device_us(launch, seconds)
    return {
        "device": device,
        "hit": host_us(partial(engine.score_many, held), seconds),
        "miss": host_us(partial(engine.score_many, slates), seconds),
    }


def _held(engine: TorchEngine, slate: EngineSlate) -> EngineSlate:
    state = engine.memory.write(slate.state)
    return EngineSlate(state, slate.recent, slate.context, slate.items, slate.fields)


def _with_filled(slate: EngineSlate, filled: int) -> EngineSlate:
    """The slate of a user with some number of filled slots: known rows, each with a sum of 1."""
    state = {name: np.array(values) for name, values in slate.state.items()}
    slots = len(state["slot_items"])
    is_filled = np.arange(slots) < filled
    state["slot_items"] = np.where(is_filled, 2 + np.arange(slots) % 100, 0).astype(np.int32)
    state["slot_sums"] = np.where(is_filled[:, None], 1, 0 * state["slot_sums"]).astype(np.float32)
    return EngineSlate(state, slate.recent, slate.context, slate.items, slate.fields)


def work_of(slates: Sequence[EngineSlate], sizes: Sizes) -> dict[str, float]:
    """Least bytes and FLOP of some slates, by the plan's arithmetic: filled slots only, each row of a table read once.

    A multiplication and an addition count 2. Exponentials and passes over elements do not count.
    """
    pairs, rows, candidates = 0, 0, 0
    for slate in slates:
        known = slate.state["slot_items"]
        filled = int(np.count_nonzero(known))
        recent = min(len(slate.recent), sizes.recent)
        own = len(slate.items)
        candidates += own
        pairs += own * (filled * sizes.heads + recent * sizes.short_heads)
        rows += filled + recent + own
    attention = pairs * 2 * 2 * sizes.dim
    first = candidates * 2 * 2 * sizes.pooled * sizes.dim * sizes.layers[0]
    head = candidates * 2 * (sizes.layers[0] * sizes.layers[1] + sizes.layers[1])
    weights = (2 * sizes.pooled * sizes.dim + sizes.layers[1]) * sizes.layers[0]
    per_candidate = sizes.layers[0] * (1 + sizes.fields) + 2
    words = rows * sizes.dim + weights + candidates * per_candidate
    return {"MFLOP": (attention + first + head) / 1e6, "MB": FLOAT_BYTES * words / 1e6}


def _floor(
    work: dict[str, float], times: dict[str, Quantiles], limits: dict[str, float]
) -> dict[str, float]:
    """Time that the work takes at the measured limits of the device, and the share of it in the time on the device."""
    if not limits:
        return {}
    arithmetic_us = TF32_TERMS * work["MFLOP"] / limits["tf32 product"]
    memory_us = work["MB"] / limits["device copy"]
    floor_us = max(arithmetic_us, memory_us)
    share = floor_us / times["device"]["p50"]
    return {"arithmetic µs": arithmetic_us, "memory µs": memory_us, "share of floor": share}


def _limits(options: Options) -> dict[str, float]:
    """Rates that the part `machine` measured: TFLOP/s, TB/s; empty if it did not run."""
    tables: dict[str, Any] = read_results(options.out)["parts"].get("machine", {}).get("tables", {})
    rates = {row["name"]: row["rate"] for row in tables.get(LIMITS, []) if "rate" in row}
    return rates if {"tf32 product", "device copy"} <= rates.keys() else {}
