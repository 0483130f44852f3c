"""absorb bench --suan: time of a request that SUAN scores: one by one, packed, or from the cache.

One user, one thread, ONNX Runtime, random weights. "One by one" runs the events and one candidate through the blocks,
once for each candidate, as in the paper; "packed" encodes the events within the request and scores all candidates in
one pass; "cached" reads the events' keys and values from the user's record.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.experiments.bench.contenders import bench_schema, random_model
from builder.experiments.bench.graph_timing import (
    Contender,
    GraphTimes,
    make_contender,
    time_in_turn,
)
from builder.experiments.report.markdown import markdown_table, write_report
from builder.progress import Progress
from models.registry import make_config

ONE_BY_ONE, SUAN, LIGHT = "SUAN, one by one", "SUAN", "LightSUAN"
SPARSE = "LightSUAN, candidates sparse too"
LIGHT_OPTIONS = {"window": 32, "stride": 32}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    ONE_BY_ONE: ("suan", {"gate": "mean"}),
    SUAN: ("suan", {}),
    LIGHT: ("light_suan", LIGHT_OPTIONS),
    SPARSE: ("light_suan", {**LIGHT_OPTIONS, "target_stride": LIGHT_OPTIONS["stride"]}),
}
"""Label -> model of the registry and its options. A gate over all tokens requires one run per candidate."""
SIZES = {"item_dim": 16, "field_dim": 4, "blocks": 2, "block_heads": 2}
ITEMS = 4_000
LENGTH, CANDIDATES = 1_000, (10, 100, 1_000)
QUICK_LENGTH, QUICK_CANDIDATES, QUICK_SIZES = 50, (10,), {**SIZES, "blocks": 1}


@dataclass(frozen=True)
class Cost:
    """One way to score a request.

    Attributes:
        way: model, and one by one, packed or cached.
        candidates: in the request.
        median_ms: time of the whole request.
        p10_ms: of the rounds.
        p90_ms: of the rounds.
        state_bytes: bytes read from the cache, fp32.
    """

    way: str
    candidates: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    state_bytes: int


def run_suan_bench(
    out: Path, progress: Progress, header: Mapping[str, str], *, quick: bool
) -> list[Path]:
    """Time everything, write a table and its numbers; return their paths.

    Args:
        out: folder, made if absent.
        progress: called after every slate size.
        header: command and machine.
        quick: a short history and one slate size, as a check; its times mean nothing.
    """
    length, slates = (QUICK_LENGTH, QUICK_CANDIDATES) if quick else (LENGTH, CANDIDATES)
    sizes = QUICK_SIZES if quick else SIZES
    contenders = [_contender(label, length, sizes) for label in MODELS]
    costs: list[Cost] = []
    timing = time_in_turn(contenders, slates, threads=1, budget_s=0.2 if quick else 10.0)
    for done, (candidates, all_times) in enumerate(zip(slates, timing, strict=True)):
        progress(done + 1, len(slates), f"{candidates} candidates")
        costs += _costs(dict(zip(MODELS, all_times, strict=True)), candidates)
    plain = {**header, "length": length, "costs": [asdict(cost) for cost in costs]}
    return write_report(out, "suan", _to_markdown(costs, length, sizes, header), plain)


def _contender(label: str, length: int, sizes: Mapping[str, int]) -> Contender:
    name, options = MODELS[label]
    schema = bench_schema(length, ITEMS)
    model = random_model(name, schema, {**sizes, **options})
    per_candidate = 4 * sizes["block_heads"] * (length + 1) ** 2 if label == ONE_BY_ONE else None
    return make_contender(label, model, schema, per_candidate)


def _costs(all_times: Mapping[str, GraphTimes], candidates: int) -> Iterator[Cost]:
    """Packed is encoding and scoring in one request; the medians and the percentiles are added."""
    for label, times in all_times.items():
        if label == ONE_BY_ONE:
            yield Cost(
                label, candidates, times.median_ms, times.p10_ms, times.p90_ms, times.state_bytes
            )
            continue
        median, p10, p90 = (
            times.encode_ms + ms for ms in (times.median_ms, times.p10_ms, times.p90_ms)
        )
        yield Cost(f"{label}, packed", candidates, median, p10, p90, state_bytes=0)
        yield Cost(
            f"{label}, cached",
            candidates,
            times.median_ms,
            times.p10_ms,
            times.p90_ms,
            times.state_bytes,
        )


def _to_markdown(
    costs: list[Cost], length: int, sizes: Mapping[str, int], header: Mapping[str, str]
) -> str:
    lines = [
        "# What a request costs when SUAN scores it",
        "",
        f"Made by `{header['command']}`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in header.items() if name != "command"]
    width = make_config("suan", sizes).layout(bench_schema(length)).dim
    lines += [
        "",
        f"L = {length:,}, {sizes['blocks']} block(s) of width {width}, one thread; LightSUAN: window",
        f"{LIGHT_OPTIONS['window']}, stride {LIGHT_OPTIONS['stride']}. Milliseconds: median (10th to 90th percentile).",
        "`times faster`: than SUAN one by one, with as many candidates. `bytes/user`: read from the cache, fp32.",
        "",
    ]
    headings = ["candidates", "scored by", "ms", "times faster", "bytes/user"]
    rows = []
    slow = {cost.candidates: cost.median_ms for cost in costs if cost.way == ONE_BY_ONE}
    for cost in costs:
        ms = f"{cost.median_ms:.2f} ({cost.p10_ms:.2f} to {cost.p90_ms:.2f})"
        ratio = f"{slow[cost.candidates] / cost.median_ms:.1f}"
        rows.append([f"{cost.candidates:,}", cost.way, ms, ratio, f"{cost.state_bytes:,}"])
    return "\n".join([*lines, *markdown_table(headings, rows)]) + "\n"
