"""The benchmark as Markdown: one table per axis, with the ratio of medians."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from builder.experiments.bench.timing import Size, Timing
from builder.experiments.report.markdown import markdown_table

AXES = {
    "length": "history length L",
    "candidates": "candidates B",
    "rank": "rank r",
    "dim": "width d",
}
SLOW = "DIN"
SHOWN = (SLOW, "LREA, position slots", "LREA, hash slots", "no long history")
"""In every table, also where they do not move."""


def to_markdown(
    timings: Sequence[Timing],
    main: Size,
    sweeps: Mapping[str, tuple[int, ...]],
    header: Mapping[str, str],
) -> str:
    """All timings, and how they were measured."""
    lines = ["# Time to score one user's slate", "", f"Made by `{header['command']}`.", ""]
    lines += [f"- {name}: {value}" for name, value in header.items() if name != "command"]
    sizes = f"L = {main.length:,}, r = {main.rank}, d = {main.dim}, B = {main.candidates:,}"
    lines += ["", *HOW, "", f"## {sizes}", ""]
    lines += _main_table([line for line in timings if line.size == main])
    one_thread = [line for line in timings if line.threads == timings[0].threads]
    for axis, values in sweeps.items():
        lines += ["", f"## Against {AXES[axis]}", "", *_sweep_table(one_thread, main, axis, values)]
    return "\n".join(lines) + "\n"


HOW = (
    "Milliseconds of the whole score graph (embeddings, short-term and long-term attention, head) for one user: median",
    "(10th to 90th percentile) of the rounds. The models take turns within a round, after a warm-up. LREA scores the",
    "slate in one run, as the service does; models linear in L take it in the blocks of candidates fastest for each.",
    "`no long history` is the part that all share. `times faster` is the ratio of medians to DIN's.",
)


def sweep(
    timings: Iterable[Timing], main: Size, axis: str, values: Sequence[int]
) -> dict[int, dict[str, Timing]]:
    """Value of the axis -> model -> timing; models that do not depend on the axis keep their timing at `main`."""
    at_main = {line.model: line for line in timings if line.size == main}
    by_value = {}
    for value in values:
        size = replace(main, **{axis: value})
        by_value[value] = at_main | {line.model: line for line in timings if line.size == size}
    return by_value


def swept(by_value: Mapping[int, Mapping[str, Timing]]) -> list[str]:
    """Models that were timed along the axis, with those that every table shows."""
    models = next(iter(by_value.values()))
    sizes = {model: {at[model].size for at in by_value.values()} for model in models}
    is_swept = len(by_value) > 1  # with a single value, all models are shown
    return [m for m in models if not is_swept or len(sizes[m]) > 1 or m in SHOWN]


def _main_table(timings: Sequence[Timing]) -> list[str]:
    rows = []
    for line in timings:
        slow = [other for other in timings if (other.model, other.threads) == (SLOW, line.threads)]
        rows.append(
            [
                line.model,
                str(line.threads),
                _spread(line),
                _ratio(line, slow[0]),
                f"{line.times.block:,}",
                str(line.times.rounds),
                f"{line.times.state_bytes:,}",
                f"{line.times.encode_ms:.2f}",
            ]
        )
    headings = [
        "model",
        "threads",
        "score ms",
        "times faster",
        "candidates per run",
        "rounds",
        "bytes per user (fp32)",
        "encode ms",
    ]
    return markdown_table(headings, rows)


def _sweep_table(
    timings: Sequence[Timing], main: Size, axis: str, values: Sequence[int]
) -> list[str]:
    models = swept(sweep(timings, main, axis, values))
    fast = [model for model in models if model.startswith("LREA")]
    rows = []
    for value, of_value in sweep(timings, main, axis, values).items():
        times = [_spread(of_value[model]) for model in models]
        ratios = [_ratio(of_value[model], of_value[SLOW]) for model in fast]
        rows.append([f"{value:,}", *times, *ratios])
    return markdown_table(
        [AXES[axis], *models, *(f"{model}: times faster" for model in fast)], rows
    )


def _spread(line: Timing) -> str:
    return f"{line.times.median_ms:.2f} ({line.times.p10_ms:.2f} to {line.times.p90_ms:.2f})"


def _ratio(line: Timing, slow: Timing) -> str:
    return f"{slow.times.median_ms / line.times.median_ms:.1f}"
