"""The benchmark as Markdown: a table of times and bytes for each history length."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.evaluate.record_sizes import EVENT_BYTES
from builder.experiments.bench.graph_timing import GraphTimes
from builder.experiments.report.markdown import markdown_table


@dataclass(frozen=True)
class Timing:
    """One model at one size.

    Attributes:
        model: label.
        length: L of the history.
        candidates: B of the slate.
        record_bytes: of a user's record in the cache, fp16.
        times: of its graphs.
    """

    model: str
    length: int
    candidates: int
    record_bytes: int
    times: GraphTimes

    @property
    def us_per_candidate(self) -> float:
        """Median, in microseconds."""
        return 1e3 * self.times.median_ms / self.candidates

    @property
    def of_raw(self) -> float:
        """Bytes of the record over those of the raw history."""
        return self.record_bytes / (EVENT_BYTES * self.length)

    def to_dict(self) -> dict[str, Any]:
        """In JSON types, the times beside the other keys."""
        plain = asdict(self)
        times = plain.pop("times")
        return {**plain, **times, "us_per_candidate": self.us_per_candidate}


HOW = (
    "One user with a full history of L different items, the inputs of the default recipe (62,502 items with five more",
    "fields, two candidate fields), random weights, one thread. `score ms`: the whole score graph (embeddings, reading",
    "of the state, short-term interest, head), median (10th to 90th percentile) of the rounds; the models take turns",
    "within a round, after a warm-up. Models whose state has a fixed size score the slate in one run, as the service",
    "does; models linear in L take it in the blocks of candidates that are fastest for each. `encode ms`: the encode",
    "graph, which the builder runs, for one user. `record`: bytes of this user in the cache, fp16 (fewer for a shorter",
    "history); `of raw`: over the raw history's 8 bytes an event. `no long history` is the part that all share.",
)


def to_markdown(timings: Sequence[Timing], header: Mapping[str, str]) -> str:
    """All timings, and how they were measured."""
    lines = ["# Time to score one user's slate", "", f"Made by `{header['command']}`.", ""]
    lines += [f"- {name}: {value}" for name, value in header.items() if name != "command"]
    lines += ["", *HOW]
    for length in dict.fromkeys(line.length for line in timings):
        own = [line for line in timings if line.length == length]
        raw = f"raw history {EVENT_BYTES * length:,} bytes"
        lines += ["", f"## L = {length:,} ({raw})", "", *_table(own)]
    return "\n".join(lines) + "\n"


def _table(timings: Sequence[Timing]) -> list[str]:
    slates = list(dict.fromkeys(line.candidates for line in timings))
    headings = ["model", "encode ms", "record", "of raw"]
    for slate in slates:
        headings += [f"score ms, B = {slate:,}", "µs/candidate"]
    rows = []
    for model in dict.fromkeys(line.model for line in timings):
        own = {line.candidates: line for line in timings if line.model == model}
        one = own[slates[0]]
        row = [model, f"{one.times.encode_ms:.2f}", f"{one.record_bytes:,}", f"{one.of_raw:.2f}"]
        for slate in slates:
            row += [_spread(own[slate].times), f"{own[slate].us_per_candidate:.1f}"]
        rows.append(row)
    return markdown_table(headings, rows)


def _spread(times: GraphTimes) -> str:
    return f"{times.median_ms:.2f} ({times.p10_ms:.2f} to {times.p90_ms:.2f})"
