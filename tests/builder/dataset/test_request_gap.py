"""The gap between a user's newest event and the next request, as folded states meet it."""

from dataclasses import replace

import numpy as np
import pytest

from builder.dataset import request_gap
from builder.dataset.parts import part_slates
from builder.dataset.request_gap import DAY_S, request_gap_s
from builder.ingest.run import ingest
from tests.builds import small_recipe


@pytest.fixture(scope="module")
def log():
    recipe = small_recipe()
    return ingest(recipe), recipe


def brute(events, recipe, cut_s: int, days: float, *, only_folded: bool = True) -> list[int]:
    """Slate by slate, as lists."""
    slates, gaps = part_slates(events, recipe, "train"), []
    for user, first in zip(slates.user, slates.first, strict=True):
        own = range(int(events.offsets[user]), int(first))
        known = [int(events.ts_s[e]) for e in own if events.label[e] == 1]
        if not known:
            continue
        built_s = float(cut_s)
        while built_s > events.ts_s[first]:
            built_s -= days * DAY_S
        if not only_folded or max(known) >= built_s:
            gaps.append(int(events.ts_s[first]) - max(known))
    return gaps


@pytest.mark.parametrize("days", [1.0, 2.0, 7.0])
def test_slates_that_meet_folded_states_count(log, monkeypatch, days):
    events, recipe = log
    monkeypatch.setattr(request_gap, "ENOUGH", 3)
    gaps = brute(events, recipe, events.as_of_s, days)
    assert len(gaps) >= 3
    assert request_gap_s(events, recipe, events.as_of_s, days) == int(np.median(gaps))


def test_with_rarer_builds_the_gap_is_longer(log, monkeypatch):
    events, recipe = log
    monkeypatch.setattr(request_gap, "ENOUGH", 3)
    gaps = [request_gap_s(events, recipe, events.as_of_s, days) for days in (0.5, 2.0, 30.0)]
    assert 0 < gaps[0] < gaps[2]
    assert gaps == sorted(gaps)


def test_where_hardly_any_slate_meets_a_folded_state_all_count(log, monkeypatch):
    events, recipe = log
    monkeypatch.setattr(request_gap, "ENOUGH", 10**9)
    gaps = brute(events, recipe, events.as_of_s, 1.0, only_folded=False)
    assert request_gap_s(events, recipe, events.as_of_s) == int(np.median(gaps))


def test_later_targets_do_not_count(log):
    """Whatever happens after the training part leaves the gap alone."""
    events, recipe = log
    is_later = events.parts() > 0
    later = np.asarray(events.ts_s) + np.where(is_later, 5, 0)
    assert is_later.any()
    moved = replace(events, ts_s=later)
    assert request_gap_s(moved, recipe, events.as_of_s) == request_gap_s(
        events, recipe, events.as_of_s
    )


def test_a_log_without_times_has_none(log):
    events, recipe = log
    assert request_gap_s(replace(events, ts_s=np.zeros_like(events.ts_s)), recipe, 1) == 0
