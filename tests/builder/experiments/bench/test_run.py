"""The benchmark, small: it times the exported graphs, and its tables, numbers and picture agree."""

import json
import struct
from pathlib import Path

import pytest

from builder.experiments.bench.contenders import (
    CONTENDERS,
    DEFAULT,
    IN_ONE_RUN,
    bench_schema,
    random_model,
)
from builder.experiments.bench.graph_timing import GraphTimes
from builder.experiments.bench.run import FULL, QUICK, run_bench
from builder.experiments.bench.suan import run_suan_bench
from builder.experiments.bench.table import Timing, to_markdown
from builder.experiments.bench.training import MODELS as TRAINED
from builder.experiments.bench.training import PHASES, RECIPE, run_training_bench
from builder.experiments.compare.cost import cost_key
from builder.progress import silent
from builder.provenance import describe_machine
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import load_recipe
from models.contract.record import USER_ID_BYTES, record_bytes


def timing(model: str, length: int, candidates: int, median_ms: float) -> Timing:
    times = GraphTimes(10, 7, median_ms, median_ms * 0.9, median_ms * 1.2, 0.5, 1_234)
    return Timing(model, length, candidates, 800, times)


def test_the_default_is_the_model_of_the_default_recipe() -> None:
    recipe = load_recipe(RECIPE)
    schema = bench_schema(recipe.history.length)

    assert cost_key(ModelChoice(*CONTENDERS[DEFAULT])) == cost_key(recipe.model)
    assert schema.recent_length == recipe.history.recent
    assert tuple(field.name for field in schema.item_fields)[1:-1] == recipe.data.item_fields
    for fields, named in (
        (schema.user_fields, recipe.data.user_fields),
        (schema.context_fields, recipe.data.context_fields),
        (schema.candidate_fields, recipe.data.candidate_fields),
    ):
        assert tuple(field.name for field in fields) == named


def test_the_full_plan_has_the_sizes_that_are_claimed() -> None:
    assert {2_000, 10_000} <= set(FULL.lengths)
    assert FULL.slates == (200, 1_000, 3_600)
    assert set(FULL.models) == set(CONTENDERS) >= set(IN_ONE_RUN)
    assert set(TRAINED) <= set(CONTENDERS)


@pytest.mark.parametrize("label", CONTENDERS)
def test_models_in_one_run_are_those_whose_state_does_not_grow(label: str) -> None:
    name, options = CONTENDERS[label]
    short, long = (
        random_model(name, bench_schema(length, 50), options).state_spec()
        for length in (2_000, 4_000)
    )
    assert (short == long) == (label in IN_ONE_RUN)


def test_a_table_for_each_length_has_a_row_for_each_model() -> None:
    timings = [timing("A", 200, 10, 2.0), timing("A", 200, 40, 4.0), timing("B", 200, 10, 1.0)]
    timings += [timing("B", 200, 40, 2.0), timing("A", 100, 10, 3.0)]

    lines = to_markdown(timings, {"command": "x"}).splitlines()

    assert [line for line in lines if line.startswith(("## ", "| A ", "| B "))] == [
        "## L = 200 (raw history 1,600 bytes)",
        "| A | 0.50 | 800 | 0.50 | 2.00 (1.80 to 2.40) | 200.0 | 4.00 (3.60 to 4.80) | 100.0 |",
        "| B | 0.50 | 800 | 0.50 | 1.00 (0.90 to 1.20) | 100.0 | 2.00 (1.80 to 2.40) | 50.0 |",
        "## L = 100 (raw history 800 bytes)",
        "| A | 0.50 | 800 | 1.00 | 3.00 (2.70 to 3.60) | 300.0 |",
    ]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("bench") / "new"
    written = run_bench(
        out,
        lambda done, total, note="": told.append((done, total)),
        describe_machine("absorb bench --quick"),
        quick=True,
    )
    return written, told


def test_quick_run_writes_tables_numbers_and_a_picture(quick) -> None:
    (table, numbers, picture), told = quick

    assert [path.name for path in (table, numbers, picture)] == [
        "bench.md",
        "bench.json",
        "bench.png",
    ]
    assert told == [(done, len(told) - 1) for done in range(len(told))]
    for word in ("--quick", "onnxruntime", "cpu", "median", "µs/candidate"):
        assert word in table.read_text()
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width > 1_000 < 2 * height
    assert json.loads(numbers.read_text())["command"] == "absorb bench --quick"
    assert f"raw history {8 * QUICK.lengths[0]:,} bytes" in table.read_text()


def test_quick_run_times_every_model_at_every_size(quick) -> None:
    lines = json.loads(quick[0][1].read_text())["timings"]

    found = [(line["length"], line["candidates"], line["model"]) for line in lines]
    sizes = [(length, slate) for length in QUICK.lengths for slate in QUICK.slates]
    assert found == [(*size, model) for size in sizes for model in QUICK.models]
    for line in lines:
        assert 0 < line["p10_ms"] <= line["median_ms"] <= line["p90_ms"]
        assert line["encode_ms"] > 0
        assert line["block"] <= line["candidates"]
        assert line["us_per_candidate"] == 1e3 * line["median_ms"] / line["candidates"]


def test_record_of_din_is_the_history_and_that_of_lrea_does_not_grow(quick) -> None:
    lines = json.loads(quick[0][1].read_text())["timings"]

    records = {
        model: [line["record_bytes"] for line in lines if line["model"] == model]
        for model in QUICK.models
    }
    few, many = (records["DIN, kernel"][place] for place in (0, -1))
    assert many - few == 8 * (QUICK.lengths[1] - QUICK.lengths[0])
    assert few > record_bytes((), "fp16", USER_ID_BYTES, 32)
    assert len(set(records[DEFAULT])) == 1


def test_training_is_timed_phase_by_phase(tmp_path: Path) -> None:
    """On the real log: two models, three steps."""
    told: list[tuple[int, int]] = []
    header = describe_machine("absorb bench --training --quick")
    table, numbers = run_training_bench(
        tmp_path, lambda done, total, note="": told.append((done, total)), header, quick=True
    )
    costs = json.loads(numbers.read_text())["costs"]
    assert [cost["model"] for cost in costs] == list(TRAINED[-2:])
    assert told[-1][0] == told[-1][1]
    for cost in costs:
        median, p10, p90 = cost["step_ms"]
        assert 0 < p10 <= median <= p90
        assert list(cost["phase_ms"]) == list(PHASES)
        assert min(cost["phase_ms"].values()) > 0
        assert cost["loss_gap"] < 1e-4  # the same training
        assert cost["slates_per_s"] > 0
        assert cost["plain_slates_per_s"] > 0
        assert cost["epoch_s"] > 100 * median / 1e3  # more than 100 steps
        assert 0 < sum(cost["operators"].values()) <= 1
        assert cost["model"] in table.read_text()


def test_quick_run_of_suan_times_every_way_to_score_a_request(tmp_path: Path) -> None:
    written = run_suan_bench(tmp_path, silent, describe_machine("absorb bench --suan"), quick=True)
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
