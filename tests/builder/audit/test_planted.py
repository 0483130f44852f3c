"""Each leak that was planted into a log fails the audit by its own rule and no other; clean logs pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.audit.checks import POPULARITY, VALUES
from builder.audit.rules import make_rules
from builder.audit.run import PartAudit, audit
from builder.audit.slate_checks import CONSTANT, DUPLICATES, HISTORIES
from builder.dataset.parts import batch_source, part_slates
from builder.errors import LeakError
from models.contract.schema import FIRST_KNOWN
from tests.builder.audit.planted import (
    DAY_S,
    TIMES,
    USERS,
    audited,
    bought_log,
    failing,
    recipe_of,
    shown_log,
)
from tests.builder.logs import START_S, ingest_at

LATE_S = START_S + int(0.8 * TIMES) * DAY_S
"""Begin of the test part."""
OWN_PAST = {"exclude": "slate", "own_past": 0.5}


def test_clean_impressions_pass(tmp_path: Path) -> None:
    found = audited(tmp_path, shown_log())

    assert failing(found) == set()
    found.require_no_leak()


def test_clean_purchases_with_negatives_from_the_own_past_pass(tmp_path: Path) -> None:
    assert failing(audited(tmp_path, bought_log(), negatives=OWN_PAST)) == set()


def test_negatives_that_leave_out_what_the_user_ever_takes_fail(tmp_path: Path) -> None:
    """The protocol of this project's first results."""
    found = audited(tmp_path, bought_log(), negatives={"exclude": "ever"})

    assert failing(found) == {"item in history"}
    assert {f.part for f in found.failures} == {"train", "validate", "test"}
    with pytest.raises(LeakError, match=r"negatives\.exclude = "):
        found.require_no_leak()


def test_negatives_from_the_past_of_users_who_take_nothing_twice_fail(tmp_path: Path) -> None:
    """The inverse leak: what is in the history can only be a negative."""
    log = bought_log(repeats=False)

    found = audited(tmp_path, log, negatives=OWN_PAST)

    assert failing(found) == {"item in history"}
    assert {f.share for f in found.failures} == {0.0}
    with pytest.raises(LeakError, match=r'set negatives\.exclude = "past"'):
        found.require_no_leak()
    assert failing(audited(tmp_path, log, negatives={"exclude": "past"})) == set()


def with_device(log: pl.DataFrame, device: Any) -> pl.DataFrame:
    return log.with_columns(device=device)


def test_a_context_field_that_is_computed_from_the_label_fails(tmp_path: Path) -> None:
    told = pl.when(pl.col("clicked") == 1).then(pl.lit("told")).otherwise(pl.col("device"))

    found = audited(tmp_path, with_device(shown_log(), told))

    assert failing(found) == {"context device"}


def test_clicked_items_that_come_first_fail(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first = pl.int_range(pl.len()) % 4 == 0
    others = pl.Series(rng.integers(0, 2, len(shown_log())))
    log = shown_log().with_columns(clicked=pl.when(first).then(1).otherwise(others))

    assert failing(audited(tmp_path, log)) == {"position in the slate"}


def test_new_items_that_are_never_clicked_fail(tmp_path: Path) -> None:
    """As drawn by an item's popularity in the whole log, of which training knows nothing."""
    chosen = pl.Series(np.random.default_rng(1).random(len(shown_log())) < 0.2)
    is_new = (pl.col("timestamp") >= LATE_S) & chosen
    log = shown_log().with_columns(
        item_id=pl.when(is_new).then(pl.col("item_id") + "new").otherwise("item_id"),
        clicked=pl.when(is_new).then(0).otherwise("clicked"),
    )

    found = audited(tmp_path, log)

    assert failing(found) == {"item unknown to training"}
    assert {f.part for f in found.failures} == {"test"}


def test_an_event_just_before_each_click_fails(tmp_path: Path) -> None:
    """The log has a line for the click and one for what was shown, a second later: the history holds the target."""
    clicks = shown_log().filter(clicked=1).with_columns(timestamp=pl.col("timestamp") - 1)

    found = audited(tmp_path, pl.concat([clicks, shown_log()]))

    assert failing(found) == {"age of the latest event with the item"}


def test_users_of_the_test_alone_with_one_label_fail(tmp_path: Path) -> None:
    """Known users with as short histories keep these from being a leak of their own."""
    user, time = pl.col("user_id").str.slice(1).cast(pl.Int64), pl.col("slate") % TIMES
    is_late = pl.col("timestamp") >= LATE_S
    log = shown_log().filter((user >= 60) | is_late | ((user >= 20) & (time == 12)))
    is_quiet = user.is_between(20, 40) & ~is_late
    log = log.with_columns(
        clicked=pl.when(user < 20).then(1).when(is_quiet).then(0).otherwise("clicked")
    )

    assert failing(audited(tmp_path, log)) == {"user in training"}


def test_labels_that_follow_from_the_user_fail(tmp_path: Path) -> None:
    user = pl.col("user_id").str.slice(1).cast(pl.Int64)
    # All click before the parts begin: an empty history must not tell who never clicks.
    is_part = pl.col("timestamp") >= START_S + 6 * DAY_S
    log = shown_log().with_columns(clicked=pl.when(is_part).then(user % 2).otherwise("clicked"))

    assert failing(audited(tmp_path, log)) == {CONSTANT}


def test_slates_that_are_in_two_parts_fail(tmp_path: Path) -> None:
    log = shown_log()
    early = log.filter((pl.col("slate") % TIMES == 10) & (pl.col("slate") < TIMES * USERS // 2))
    copies = early.with_columns(timestamp=pl.col("timestamp") + 17 * DAY_S + 7)

    assert failing(audited(tmp_path, pl.concat([log, copies]))) == {DUPLICATES}


def test_popularity_that_counts_test_days_fails(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, shown_log())
    events = ingest_at(recipe)
    assert failing(audit(events, recipe)) == set()

    late = replace(events, train_popularity=events.popularity)
    assert failing(audit(late, recipe)) == {POPULARITY}

    fields = events.item_fields.copy()
    fields[FIRST_KNOWN:, -1] += (events.popularity[FIRST_KNOWN:] % 2).astype(np.int32)
    assert failing(audit(replace(events, item_fields=fields), recipe)) == {POPULARITY}


def test_ids_for_values_of_the_test_days_fail(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, shown_log())
    events = ingest_at(recipe)
    context = events.context.copy()
    is_early = events.ts_s < events.split.test_from_s
    context[is_early & (context[:, 0] == FIRST_KNOWN + 2)] = FIRST_KNOWN

    found = audit(replace(events, context=context), recipe)

    assert failing(found) == {VALUES}
    assert "context device (1)" in found.failures[0].text  # type: ignore[union-attr]


def test_a_history_that_holds_the_target_fails(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, shown_log())
    events = ingest_at(recipe)
    slates = part_slates(events, recipe, "test")
    slates = slates.at(np.arange(len(slates) - 1))  # an event must follow the last one
    late = replace(slates, first=slates.end)
    look = PartAudit(events, make_rules(events), "test")

    look.add(batch_source(events, recipe, "test"), late, np.arange(len(late)))

    histories, _ = look.checks()
    assert histories.name == HISTORIES
    assert histories.verdict == "fails"
    assert histories.share > 0.9


def test_an_exception_lets_its_rule_and_what_follows_from_it_pass(tmp_path: Path) -> None:
    allow = [{"rule": "item in history", "reason": "The paper's protocol, kept to compare."}]

    found = audited(tmp_path, bought_log(), negatives={"exclude": "ever"}, audit={"allow": allow})

    assert failing(found) == set()
    found.require_no_leak()
    assert {f.name for f in found.exceptions} == {"item in history: yes"}
    assert {a["reason"] for a in found.summary()["allowed"]} == {allow[0]["reason"]}
