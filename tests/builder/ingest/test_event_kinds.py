"""Kinds of events: which are targets, which stand in histories, what returns cancel, and what each weighs."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.batches import BatchSource
from builder.dataset.parts import batch_source, part_slates
from builder.errors import EventsError
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from builder.train.train import weighted_loss
from tests.builder.logs import (
    START_S,
    ingest_at,
    plain_recipe,
    problems_of,
    write_log,
)

KINDS: dict[str, Any] = {"column": "what", "positive": ["buy"], "history": ["view"]}
Rows = list[tuple[str, str, int, str]]


def steps(users: int = 8, repeats: int = 5) -> Rows:
    """Each user views an item, and buys it an hour later, again and again; items differ."""
    rows = []
    for user in range(users):
        for turn in range(repeats):
            item, at = f"i{(user + 3 * turn) % 11}", START_S + 7_200 * turn + user
            rows += [(f"u{user}", item, at, "view"), (f"u{user}", item, at + 3_600, "buy")]
    return rows


def log_of(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "what"], orient="row")


def ingested(folder: Path, rows: Rows, **data: Any) -> tuple[Events, Recipe]:
    values = {"event_kinds": KINDS, **data}
    recipe = write_log(folder, log_of(rows), data=values, history={"length": 8, "recent": 2})
    ingest_at(recipe).save(folder / "saved")
    return Events.load(folder / "saved"), recipe


def source_of(events: Events, recipe: Recipe) -> BatchSource:
    return batch_source(events, recipe, "train")


def test_kinds_of_the_history_are_in_histories_and_no_targets(tmp_path: Path) -> None:
    events, recipe = ingested(tmp_path, steps())
    slates = part_slates(events, recipe, "train")

    _, targets = source_of(events, recipe).batch(
        slates, np.arange(len(slates)), np.random.default_rng(0)
    )

    shown = targets.event[targets.event >= 0]
    assert events.is_target is not None
    assert events.is_target[shown].all()
    assert len(shown) == sum(
        1
        for part, is_target in zip(events.parts(), events.is_target, strict=True)
        if part == 0 and is_target
    )
    views = np.flatnonzero(~np.asarray(events.is_target))
    first = slates.first
    assert len(views) == 40
    for row, event in enumerate(first):
        past = np.asarray(events.item)[events.offsets[slates.user[row]] : event]
        assert targets.history[row][targets.history[row] > 0].tolist() == past[-8:].tolist()


def test_targets_and_views_of_one_second_are_apart(tmp_path: Path) -> None:
    """A view in the second of a purchase is not in its slate, whatever the order in the file."""
    rows = steps() + [
        ("u0", "i0", START_S + 99_999, what) for what in ("buy", "view", "buy", "view")
    ]
    events, recipe = ingested(tmp_path, rows)
    assert events.is_target is not None

    for part in ("train", "validate", "test"):
        slates = part_slates(events, recipe, part)
        for begin, end in zip(slates.begin, slates.end, strict=True):
            assert np.asarray(events.is_target)[begin:end].all()


def test_negative_kinds_are_negatives_and_in_no_history(tmp_path: Path) -> None:
    rows = [
        (user, item, at, "skip" if place % 3 == 1 else what)
        for place, (user, item, at, what) in enumerate(steps(users=12))
    ]
    kinds = KINDS | {"negative": ["skip"]}
    events, recipe = ingested(tmp_path, rows, event_kinds=kinds)
    slates = part_slates(events, recipe, "test")

    _, targets = source_of(events, recipe).batch(
        slates, np.arange(len(slates)), np.random.default_rng(0)
    )

    assert events.has_impressions
    assert (events.label == 0).sum() == sum(1 for row in rows if row[3] == "skip")
    skipped = np.flatnonzero(np.asarray(events.label) == 0)
    for row in range(len(slates)):
        own = np.arange(events.offsets[slates.user[row]], slates.first[row])
        past = np.asarray(events.item)[own[~np.isin(own, skipped)]]
        assert targets.history[row][targets.history[row] > 0].tolist() == past[-8:].tolist()


def test_returns_cancel_the_latest_earlier_purchase_of_the_item(tmp_path: Path) -> None:
    own: Rows = [
        ("u0", "a", 10, "return"),  # of nothing
        ("u0", "a", 20, "buy"),
        ("u0", "a", 30, "view"),  # is not bought
        ("u0", "a", 40, "buy"),  # cancelled
        ("u0", "b", 50, "buy"),
        ("u0", "a", 60, "return"),
        ("u1", "b", 70, "return"),  # of another user
        ("u1", "b", 80, "buy"),
    ]
    rows = steps() + [(user, item, START_S + 90_000 + at, what) for user, item, at, what in own]

    events, _ = ingested(tmp_path, rows, event_kinds=KINDS | {"cancel": ["return"]})

    left = [(at - START_S - 90_000) for at in events.ts_s.tolist() if at > START_S + 90_000]
    assert sorted(left) == [20, 30, 50, 80]


def test_quantities_of_0_or_less_cancel_if_said(tmp_path: Path) -> None:
    rows = steps()
    frame = log_of(rows).with_columns(pieces=pl.lit(1))
    last = frame.filter(pl.col("user_id") == "u0").tail(1)
    back = last.with_columns(pl.col("timestamp") + 5, pieces=pl.lit(-1))
    frame = pl.concat([frame, back.with_columns(pl.col("pieces").cast(pl.Int32))])
    data: dict[str, Any] = {"columns": {"quantity": "pieces"}}

    dropped = ingest_at(write_log(tmp_path, frame, data=data))
    cancelled = ingest_at(write_log(tmp_path, frame, data=data | {"cancel_returns": True}))

    assert len(dropped.item) == len(rows)
    assert len(cancelled.item) == len(rows) - 1
    assert int(last["timestamp"][0]) not in cancelled.ts_s[: int(cancelled.offsets[1])]


def test_weights_reach_the_loss_and_the_drawn_negatives(tmp_path: Path) -> None:
    rows = [
        (user, item, at, "cart" if user < "u4" and what == "buy" else what)
        for user, item, at, what in steps()
    ]
    kinds = KINDS | {"positive": ["buy", "cart"], "weights": {"cart": 0.25}}
    events, recipe = ingested(tmp_path, rows, event_kinds=kinds)
    slates = part_slates(events, recipe, "train")

    batch, targets = source_of(events, recipe).batch(
        slates, np.arange(len(slates)), np.random.default_rng(0)
    )

    expected = np.where(targets.user < 4, 0.25, 1.0)[:, None] * targets.mask
    np.testing.assert_array_equal(targets.weight, expected.astype(np.float32))
    loss = weighted_loss(batch.label * 0 + 1.5, batch)
    each = np.logaddexp(0, np.where(targets.label > 0, -1.5, 1.5))
    assert float(loss) == pytest.approx((each * expected).sum() / expected.sum(), rel=1e-5)


def test_a_column_of_quantities_weighs_by_its_logarithm(tmp_path: Path) -> None:
    frame = log_of(steps()).with_columns(dwell=pl.Series([None, -3.0, 0.0, 1.0, 3.0] * 16))
    data = {"columns": {"weight": "dwell"}, "event_kinds": KINDS}

    events = ingest_at(write_log(tmp_path, frame, data=data))

    assert events.weight is not None
    assert sorted(set(events.weight.tolist())) == [0.0, 1.0, 2.0]
    assert (events.weight == 1.0).sum() == 32
    with pytest.raises(EventsError, match="column 'dwell': got a value that is not a number"):
        ingest_at(write_log(tmp_path, frame.with_columns(dwell=pl.lit("long")), data=data))


def test_a_log_of_one_kind_is_as_one_without_kinds(tmp_path: Path) -> None:
    frame = log_of(steps()).with_columns(what=pl.lit("buy"))
    plain = ingest_at(write_log(tmp_path, frame))

    events = ingest_at(
        write_log(tmp_path, frame, data={"event_kinds": {"column": "what", "positive": ["buy"]}})
    )

    assert events.is_target is None
    assert events.weight is None
    assert events.item.tolist() == plain.item.tolist()
    assert not events.has_impressions


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        (
            {"positive": ["buy"]},
            r"column 'what': got a kind of event that is not said: 'view' in 40 of 80 rows, expected one that "
            r"data.event_kinds names \(buy\); drop = \[...\] leaves kinds out",
        ),
        (
            {"positive": ["gift"], "history": ["view", "buy"]},
            "positive: got no event of these kinds",
        ),
        ({"positive": ["buy"], "cancel": ["view"], "column": "none"}, "no column 'none'"),
    ],
)
def test_kinds_that_do_not_fit_the_log_are_refused(
    tmp_path: Path, kinds: dict[str, Any], problem: str
) -> None:
    with pytest.raises(EventsError, match=problem):
        ingested(tmp_path, steps(), event_kinds={"column": "what"} | kinds)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"event_kinds": KINDS | {"positive": []}}, "data.event_kinds.positive: got no kind"),
        (
            {"event_kinds": KINDS | {"drop": ["view"]}},
            "data.event_kinds.history: got 'view', which is in drop too, expected one list",
        ),
        (
            {"event_kinds": KINDS | {"weights": {"view": 2.0}}},
            "data.event_kinds.weights.view: got a kind that is no target",
        ),
        (
            {"event_kinds": KINDS | {"weights": {"buy": 0.0}}},
            "data.event_kinds.weights.buy: got 0.0, expected a number above 0",
        ),
        (
            {"event_kinds": KINDS, "columns": {"label": "y"}},
            "data.columns.label: got a column beside data.event_kinds",
        ),
        ({"event_kinds": KINDS, "drop_repeats": True}, "data.drop_repeats: got true beside"),
        ({"cancel_returns": True}, "data.columns.quantity: missing, expected it for"),
    ],
)
def test_impossible_kinds_are_refused_with_the_recipe(data: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(plain_recipe(data=data))

    assert found.startswith(problem)
