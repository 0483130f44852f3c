"""The benchmark, small: it times the exported graphs, and its table, numbers and picture agree."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from builder.experiments.bench.graph_timing import GraphTimes
from builder.experiments.bench.plot import plot
from builder.experiments.bench.run import FULL, QUICK, UNAFFECTED, make_plan, run_bench
from builder.experiments.bench.suan import run_suan_bench
from builder.experiments.bench.table import sweep, swept, to_markdown
from builder.experiments.bench.timing import CONTENDERS, RECENT, Size, Timing
from builder.experiments.bench.training import PHASES, run_training_bench
from builder.progress import silent
from builder.provenance import describe_machine
from models.contract.record import USER_ID_BYTES, record_bytes
from models.registry import MODELS

MAIN = Size(length=100, candidates=10, rank=4, dim=8)


def timing(model: str, median_ms: float, size: Size = MAIN, threads: int = 1) -> Timing:
    low_ms, high_ms = median_ms * 0.9, median_ms * 1.2
    times = GraphTimes(10, 7, float(median_ms), low_ms, high_ms, 0.5, 1_234)
    return Timing(model, size, threads, times)


def test_full_plan_has_the_sizes_that_are_claimed() -> None:
    assert Size(length=10_000, candidates=1_000, rank=128, dim=16) == FULL.main
    assert (min(FULL.sweeps["length"]), max(FULL.sweeps["length"])) == (100, 10_000)
    assert all(getattr(FULL.main, axis) in values for axis, values in FULL.sweeps.items())
    assert {name for name, _ in CONTENDERS.values()} <= set(MODELS)
    assert set(FULL.models) == set(CONTENDERS)


def test_a_model_that_does_not_know_an_axis_stays_where_it_is() -> None:
    timings = [timing("LREA", 1), timing("DIN", 50), timing("LREA", 2, Size(100, 10, 8, 8))]

    by_value = sweep(timings, MAIN, "rank", (4, 8))

    assert {value: by_value[value]["DIN"].times.median_ms for value in (4, 8)} == {4: 50, 8: 50}
    assert {value: by_value[value]["LREA"].times.median_ms for value in (4, 8)} == {4: 1, 8: 2}


def test_ratio_is_of_medians_with_the_same_threads() -> None:
    timings = [
        timing("LREA", 2),
        timing("DIN", 100),
        timing("LREA", 1, threads=2),
        timing("DIN", 80, threads=2),
    ]

    lines = to_markdown(timings, MAIN, {"length": (100,)}, {"command": "x"}).splitlines()

    rows = [line for line in lines if line.startswith(("| LREA |", "| DIN |"))]
    assert rows == [
        "| LREA | 1 | 2.00 (1.80 to 2.40) | 50.0 | 10 | 7 | 1,234 | 0.50 |",
        "| DIN | 1 | 100.00 (90.00 to 120.00) | 1.0 | 10 | 7 | 1,234 | 0.50 |",
        "| LREA | 2 | 1.00 (0.90 to 1.20) | 80.0 | 10 | 7 | 1,234 | 0.50 |",
        "| DIN | 2 | 80.00 (72.00 to 96.00) | 1.0 | 10 | 7 | 1,234 | 0.50 |",
    ]
    assert lines[-1] == "| 100 | 2.00 (1.80 to 2.40) | 100.00 (90.00 to 120.00) | 50.0 |"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    header = describe_machine("python -m builder bench --quick")
    out = tmp_path_factory.mktemp("bench") / "new"
    written = run_bench(
        out, lambda done, total, note="": told.append((done, total)), header, quick=True
    )
    return written, told


def test_quick_run_writes_all_three(quick) -> None:
    (table, numbers, picture), told = quick

    assert [path.name for path in (table, numbers, picture)] == [
        "bench.md",
        "bench.json",
        "bench.png",
    ]
    assert told == [(done, len(told) - 1) for done in range(len(told))]
    for word in ("--quick", "onnxruntime", "cpu", "median", "blocks of candidates"):
        assert word in table.read_text()
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width > 1_000 < 2 * height


def test_quick_run_times_every_size_for_every_model(quick) -> None:
    found = json.loads(quick[0][1].read_text())

    expected = [QUICK.main] * 2
    for axis, values in QUICK.sweeps.items():
        others = [value for value in values if value != getattr(QUICK.main, axis)]
        expected += [Size(**{**found["main"], axis: value}) for value in others for _ in range(2)]
    assert [Size(**line["size"]) for line in found["timings"]] == expected
    assert all(
        0 < line["p10_ms"] <= line["median_ms"] <= line["p90_ms"] for line in found["timings"]
    )


def test_record_of_din_is_the_history_and_that_of_lrea_is_not(quick) -> None:
    lines = json.loads(quick[0][1].read_text())["timings"]

    sizes = {line["model"]: line["state_bytes"] for line in lines}

    empty = record_bytes((), "fp32", USER_ID_BYTES, RECENT)
    profile = 4 * (4 + 1)  # and the history's length
    row_counts = 2 * 4
    assert sizes["DIN"] == empty + profile + row_counts + 8 * QUICK.main.length
    heads = 4
    slots = QUICK.main.rank * (QUICK.main.dim + heads)
    assert sizes["LREA, hash slots"] == empty + profile + 4 * slots


def test_every_sequence_model_is_timed_against_the_length() -> None:
    reading = {name for name, entry in MODELS.items() if entry.model.reads_history}
    assert {name for name, _ in CONTENDERS.values()} == reading
    assert set(FULL.models) - set(UNAFFECTED["length"]) == set(CONTENDERS) - {"no long history"}
    assert 10_000 in FULL.sweeps["length"]


def test_a_table_leaves_out_who_was_not_timed_along_its_axis() -> None:
    still = [timing("LREA", 1), timing("DIN", 50), timing("SDIM", 9)]
    lines = [*still, timing("LREA", 2, Size(100, 10, 8, 8))]
    assert swept(sweep(lines, MAIN, "rank", (4, 8))) == ["LREA", "DIN"]


def test_training_is_timed_phase_by_phase(tmp_path: Path) -> None:
    """On the real log: two models, three steps."""
    told: list[tuple[int, int]] = []
    header = describe_machine("python -m builder bench --training --quick")
    table, numbers = run_training_bench(
        tmp_path, lambda done, total, note="": told.append((done, total)), header, quick=True
    )
    costs = json.loads(numbers.read_text())["costs"]
    assert [cost["model"] for cost in costs] == ["LREA, hash slots", "DIN, full history"]
    assert told[-1][0] == told[-1][1]
    for cost in costs:
        median, p10, p90 = cost["step_ms"]
        assert 0 < p10 <= median <= p90
        assert list(cost["phase_ms"]) == list(PHASES)
        assert min(cost["phase_ms"].values()) > 0
        assert cost["loss_gap"] < 1e-4  # the same training
        assert cost["slates_per_s"] > 0
        assert cost["plain_slates_per_s"] > 0
        assert cost["epoch_s"] > 1_000 * median / 1e3  # more than 1,000 steps
        assert 0 < sum(cost["operators"].values()) <= 1
        assert cost["model"] in table.read_text()


def test_one_axis_may_be_varied_alone(tmp_path: Path) -> None:
    plan = make_plan(quick=False, axes=["candidates"])
    assert plan == replace(FULL, sweeps={"candidates": FULL.sweeps["candidates"]})
    timings = [
        timing(model, 1.0, Size(100, candidates, 4, 8))
        for model in ("LREA, hash slots", "DIN")
        for candidates in (10, 50)
    ]
    plot(timings, MAIN, {"candidates": (10, 50)}, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 0


def test_quick_run_of_suan_times_every_way_to_score_a_request(tmp_path: Path) -> None:
    written = run_suan_bench(
        tmp_path, silent, describe_machine("python -m builder bench --suan"), quick=True
    )
    table, numbers = (path.read_text() for path in written)
    models = ("SUAN", "LightSUAN", "LightSUAN, candidates sparse too")
    packed_and_cached = [f"{model}, {way}" for model in models for way in ("packed", "cached")]
    ways = ["SUAN, one by one", *packed_and_cached]
    costs = {cost["way"]: cost for cost in json.loads(numbers)["costs"]}
    assert list(costs) == ways
    assert all(f"| {way} |" in table for way in ways)
    for model in models:  # packed, a request encodes the history and reads nothing
        assert costs[f"{model}, packed"]["median_ms"] > costs[f"{model}, cached"]["median_ms"]
        assert costs[f"{model}, packed"]["state_bytes"] == 0
    dense, light, sparse = (costs[f"{model}, cached"]["state_bytes"] for model in models)
    assert dense == light > sparse
