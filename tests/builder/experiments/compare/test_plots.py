"""A comparison's pictures: what is drawn, and that names are readable."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from builder.experiments.compare.cost import Cost, Costs, cost_key
from builder.experiments.compare.plot_cuts import key_rows
from builder.experiments.compare.plot_front import Point, _front, plot_front
from builder.experiments.compare.run import write_comparison
from builder.experiments.compare.table import SweepRows
from builder.experiments.report.figure import new_figure
from builder.experiments.report.labels import Label, place_labels
from tests.builder.experiments.compare.compared import (
    CUT,
    DIN,
    SIM,
    comparison,
    outcome,
    row,
    slate_comparison,
    sweep,
)


def test_curves_and_reliability_are_drawn(tmp_path: Path) -> None:
    written = write_comparison(slate_comparison(), "command", tmp_path)

    names = [path.name for path in written]
    assert {"curves.png", "reliability.png"} <= set(names)
    for picture in written[2:]:
        width, height = struct.unpack(">II", picture.read_bytes()[16:24])
        assert width > 400
        assert height > 300


def test_the_front_has_the_points_that_nothing_beats() -> None:
    cheap, good, beaten, best = (
        Point(cost, quality, 0.0, "", "C0")
        for cost, quality in ((1.0, 0.6), (2.0, 0.7), (3.0, 0.65), (9.0, 0.8))
    )

    assert _front([best, beaten, cheap, good]) == [cheap, good, best]


def test_the_front_is_drawn_by_bytes_by_sweep_and_by_time(tmp_path: Path) -> None:
    """Three panels: twice as high as wide and more. Points of the same bytes do not break the layout."""
    other = row("slots", "lrea", [0.68, 0.79, 0.74], heads=4)
    winner = row("slots", "lrea", [0.70, 0.80, 0.75])
    swept = SweepRows("heads", "slots", "heads", [(2, winner), (4, other)])
    cost = Cost(1, 5.0, 5.0, 5.0, 64)
    costs = Costs({}, {cost_key(one.model): cost for one in (DIN, SIM)})
    found = comparison(SIM, DIN, winner, sweeps=(swept,)).with_costs(costs)

    assert [len(figure.axes) for figure in map(plot_front, (found, comparison(SIM))) if figure] == [
        3,
        1,
    ]
    assert plot_front(comparison(replace(SIM, sizes=None))) is None


def test_names_cover_neither_each_other_nor_points() -> None:
    axes = new_figure(8.0, 5.0).subplots()
    axes.plot([0, 1], [0, 1], ".")
    labels = [Label(0.5, 0.5 + i / 500, 0.05, f"a name of point {i}", "C0") for i in range(12)]

    place_labels(axes, labels)

    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 12
    for place, box in enumerate(boxes):
        assert axes.bbox.x0 < box.x0
        assert box.x1 < axes.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_the_models_that_matter_are_the_best_of_each_kind() -> None:
    slots = row("slots", "lrea", [0.7])
    none = row("nothing", "none", [0.5])
    worse = [{**one, "validation": {"auc": 0.5}} for one in none.outcomes]
    counts, slots_too = replace(none, label="counts"), replace(slots, label="slots, too")

    found = key_rows(comparison(SIM, DIN, slots, slots_too, replace(none, outcomes=worse), counts))

    assert [one.label for one in found] == ["slots", "DIN, all", "SIM", "counts", "nothing"]


def test_everything_is_written(tmp_path: Path) -> None:
    costs = {cost_key(one.model): Cost(1, us, us, us, 64) for one, us in ((DIN, 30.0), (SIM, 20.0))}
    found = comparison(SIM, DIN, sweeps=(sweep("heads", 2, 4), sweep("dropout", 0.0, 0.1)))

    written = write_comparison(found.with_costs(Costs({}, costs)), "command", tmp_path / "new")

    names = ["table.md", "table.json", "front.png", "cuts.png", "sweep.png"]
    assert [path.name for path in written] == names
    for picture in written[2:]:
        width, height = struct.unpack(">II", picture.read_bytes()[16:24])
        assert min(width, height) > 400
    plain = json.loads(written[1].read_text())
    assert (plain["full"], plain["best_two_stage"]) == ("DIN, all", "SIM")
    (sim, din), (heads, _) = plain["rows"], plain["sweeps"]
    assert sim["means"]["auc_over_full"]["mean"] == pytest.approx(0.32 / 3)
    assert "auc_over_full" not in din["means"]
    assert sim["cost"]["us_per_candidate"] == 20
    assert "history" not in sim["outcomes"][0]
    assert [line["value"] for line in heads["rows"]] == [2, 4]


def test_without_costs_cuts_and_sweeps_there_are_tables_only(tmp_path: Path) -> None:
    bare = replace(
        DIN, outcomes=[{**outcome(0, 0.6), "cuts": {CUT: {}}, "by_history": {}}], sizes=None
    )

    written = write_comparison(comparison(bare), "command", tmp_path)

    assert [path.name for path in written] == ["table.md", "table.json"]


def test_with_nothing_trained_yet_floors_are_shown(tmp_path: Path) -> None:
    write_comparison(comparison(), "command", tmp_path)

    assert (
        "| floor: boosted trees on counts and ages |  | 0.6600 |"
        in (tmp_path / "table.md").read_text()
    )
