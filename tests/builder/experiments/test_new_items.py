"""New items are those without an event before the test days; both rows score the same targets of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.dataset.parts import part_slates
from builder.errors import StepError
from builder.experiments.new_items.measure import ARMS, measure, new_rows
from builder.experiments.new_items.text import write_new_items
from builder.ingest.events import Events
from tests.builds import Builds
from tests.cases import Case

CASE = Case("lrea", "items")
NEW = (5, 6, 7)


def with_new_items(events: Events) -> Events:
    """The log in which the events before the test days of some items are of another."""
    item = np.asarray(events.item).copy()
    before = np.asarray(events.ts_s) < events.split.test_from_s
    item[before & np.isin(item, NEW)] = 8
    popularity = np.bincount(item[before], minlength=events.schema.num_items)
    return replace(events, item=item, train_popularity=popularity)


def test_new_targets_are_scored_by_both_rows(builds: Builds, tmp_path: Path):
    events, recipe = with_new_items(builds.events), builds.recipe(CASE)
    assert np.flatnonzero(new_rows(events)).tolist() == list(NEW)
    slates = part_slates(events, recipe, "test")
    spans = [np.arange(*span) for span in zip(slates.begin, slates.end, strict=True)]
    targets = np.concatenate(spans)
    expected = int(np.isin(events.item[targets], NEW).sum())

    outcome = measure(builds.checkpoint(CASE), events, recipe)

    assert outcome.items == len(set(events.item[targets]) & set(NEW))
    assert [outcome.reports[arm]["targets"] for arm in ARMS] == [expected] * 2
    assert outcome.reports[ARMS[0]]["log_loss"] != outcome.reports[ARMS[1]]["log_loss"]
    assert sum(outcome.matched.values()) == pytest.approx(1)
    table, numbers = write_new_items("tiny", {0: outcome, 1: outcome}, "absorb new-items", tmp_path)
    assert "| **difference** |" in table.read_text()
    assert json.loads(numbers.read_text())["difference"]["log_loss"]["mean"] == pytest.approx(
        outcome.reports[ARMS[1]]["log_loss"] - outcome.reports[ARMS[0]]["log_loss"]
    )


def test_a_log_without_new_items_is_refused(builds: Builds):
    with pytest.raises(StepError, match="no new target"):
        measure(builds.checkpoint(CASE), builds.events, builds.recipe(CASE))
