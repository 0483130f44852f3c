"""Sizes of records: of every row's served graph, measured once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from builder.evaluate.record_sizes import measure_record_sizes
from builder.experiments.compare.sizes import FILE, with_sizes
from builder.experiments.compare.table import SweepRows
from builder.pipeline import Build
from builder.recipe.models import ModelChoice
from models.registry import build_model
from tests.builder.experiments.compare.compared import comparison, row

SMALL = {"mlp": [8], "item_dim": 4, "heads": 2}


def test_sizes_are_measured_once_for_rows_and_sweeps(finished: Build, tmp_path: Path) -> None:
    events = finished.events()
    short = ModelChoice("din", {**SMALL, "long": False})
    items = ModelChoice("lrea", {**SMALL, "slots": "items", "rank": 4})
    rows = [
        replace(row("short", "none", [0.7]), model=short, sizes=None),
        replace(row("items", "lrea", [0.7]), model=items, sizes=None),
    ]
    dropped = replace(rows[1], model=replace(items, config={**items.config, "dropout": 0.1}))
    wider = replace(rows[1], model=replace(items, config={**items.config, "rank": 8}))
    sweep = SweepRows("rank", "items", "rank", [(4, rows[1]), (8, wider)])
    given = comparison(*rows, dropped, sweeps=(sweep,))
    told: list[tuple[int, int]] = []

    found, again = (
        with_sizes(given, events, tmp_path, lambda done, total, note="": told.append((done, total)))
        for _ in range(2)
    )

    assert told == [(1, 3), (2, 3), (3, 3)]  # dropout changes no record
    assert (tmp_path / FILE).is_file()
    assert [one.sizes for one in found.rows] == [one.sizes for one in again.rows]
    first, slots, same = (one.sizes for one in found.rows)
    assert slots == same
    fields = torch.from_numpy(np.array(events.item_fields))
    built = build_model("lrea", events.schema, fields, items.config).eval()
    assert slots == measure_record_sizes(built, events)
    assert first is not None
    assert slots is not None
    assert first.mean["fp16"] < slots.mean["fp16"] < slots.largest["fp32"]
    assert found.sweeps[0].rows[1][1].sizes != slots


def test_sizes_of_other_events_of_the_same_schema_are_measured_again(
    finished: Build, tmp_path: Path
) -> None:
    """The same users, each with its first three events only."""
    events = finished.events()
    model = ModelChoice("din", SMALL)
    given = comparison(replace(row("all", "full", [0.7]), model=model, sizes=None))
    long = with_sizes(given, events, tmp_path).rows[0].sizes
    place = np.arange(len(events.item)) - events.offsets[events.users()]
    kept = place < 3
    per_event = ("item", "ts_s", "label", "context")
    count = np.bincount(events.users()[kept], minlength=events.num_users)
    fewer = replace(
        events,
        offsets=np.concatenate([[0], np.cumsum(count)]),
        **{name: getattr(events, name)[kept] for name in per_event},
    )
    assert fewer.schema.fingerprint() == events.schema.fingerprint()

    short = with_sizes(given, fewer, tmp_path).rows[0].sizes

    assert long is not None
    assert short is not None
    assert short.raw < long.raw
    assert short.mean["fp32"] < long.mean["fp32"]


def test_sizes_of_another_schema_are_measured_again(finished: Build, tmp_path: Path) -> None:
    events = finished.events()
    model = ModelChoice("din", {**SMALL, "long": False})
    given = comparison(replace(row("short", "none", [0.7]), model=model, sizes=None))
    with_sizes(given, events, tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    wrong = {key: {**sizes, "raw": -1} for key, sizes in kept["of"].items()}
    (tmp_path / FILE).write_text(json.dumps({"log": "another", "of": wrong}))

    sizes = with_sizes(given, events, tmp_path).rows[0].sizes

    assert sizes is not None
    assert sizes.raw > 0
