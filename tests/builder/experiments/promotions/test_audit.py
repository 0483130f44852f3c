"""The audit passes a clean task and fails each planted leak."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.experiments.promotions.audit import audit, wilson, write_audit
from builder.experiments.promotions.prepared import Prepared


def _failures(prepared: Prepared) -> set[str]:
    return {rule.name for rule in audit(prepared) if rule.fails}


def _without(prepared: Prepared, drop: np.ndarray) -> Prepared:
    """The same task whose candidates `drop` are in no pool."""
    kept = np.append(0, np.cumsum(~drop))
    places, counts = [], np.zeros(len(prepared.week), int)
    for visit in range(len(prepared.week)):
        here = prepared.pool_of(visit)
        bought = prepared.positives_of(visit) + here.start
        bought = bought[~drop[bought]]
        counts[visit] = len(bought)
        places.append(kept[bought] - kept[here.start])
    return replace(
        prepared,
        pool_first=kept[prepared.pool_first].astype(np.int32),
        pool_row=prepared.pool_row[~drop],
        pool_display=prepared.pool_display[~drop],
        pool_mailer=prepared.pool_mailer[~drop],
        positive_first=np.append(0, counts.cumsum()).astype(np.int32),
        positive_place=np.concatenate(places).astype(np.uint16),
    )


def _one_pool_each(prepared: Prepared) -> Prepared:
    """Every visit has a pool of its own, so that one visit's pool can be spoilt."""
    parts = [prepared.pool_of(visit) for visit in range(len(prepared.week))]
    every = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    first = np.append(0, np.cumsum([part.stop - part.start for part in parts]))
    return replace(
        prepared,
        pool=np.arange(len(parts), dtype=np.int32),
        pool_first=first.astype(np.int32),
        pool_row=prepared.pool_row[every],
        pool_display=prepared.pool_display[every],
        pool_mailer=prepared.pool_mailer[every],
    )


def _facts(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Of each candidate of tasks with a pool for each visit: is it bought, does it stand in the history?"""
    labels, seen = [], []
    for visit in range(len(prepared.week)):
        rows = prepared.pool_row[prepared.pool_of(visit)]
        history = prepared.event_row[prepared.start[visit] : prepared.end[visit]]
        labels.append(prepared.labels_of(visit))
        seen.append(np.isin(rows, history))
    return np.concatenate(labels), np.concatenate(seen)


def test_a_clean_task_passes(prepared: Prepared):
    assert not _failures(prepared)


def test_negatives_never_from_the_history_fail(prepared: Prepared):
    """The old recipe: what the user touched is a positive or not there at all."""
    own = _one_pool_each(prepared)
    label, seen = _facts(own)
    found = _failures(_without(own, seen & ~label))
    assert "item in history" in found
    assert any(name.startswith("item last bought") for name in found)


def test_positives_never_from_the_history_fail(prepared: Prepared):
    """The inverse leak: a task in which nothing is bought twice."""
    own = _one_pool_each(prepared)
    label, seen = _facts(own)
    rules = audit(_without(own, seen & label))
    found = {rule.name: rule for rule in rules if rule.part == "train"}["item in history"]
    assert found.positives == 0
    assert found.candidates > 0  # shown, though of one class


def test_a_field_that_tells_the_label_fails(prepared: Prepared):
    own = _one_pool_each(prepared)
    label, _ = _facts(own)
    told = replace(own, pool_display=np.where(label, 9, own.pool_display).astype(np.uint8))
    assert "display 9" in _failures(told)


def test_intervals():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(50, 100)
    assert [low, high] == pytest.approx([0.404, 0.596], abs=1e-3)
    assert wilson(0, 1000)[1] == pytest.approx(0.0038, abs=1e-4)


def test_the_table_names_every_rule(prepared: Prepared, tmp_path: Path):
    rules = audit(prepared)
    text = write_audit(rules, prepared, tmp_path)
    assert all(f"| {rule.part} | {rule.name} |" in text for rule in rules)
    assert (tmp_path / "audit.json").is_file()
