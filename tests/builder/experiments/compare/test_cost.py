"""Cost: of every model of a comparison, timed together once."""

from pathlib import Path

import pytest

from builder.experiments.compare.cost import CANDIDATES, cost_key, kept_costs, time_costs
from builder.pipeline import Build
from builder.recipe.models import ModelChoice
from models.contract.record import USER_ID_BYTES, record_bytes

SMALL = {"mlp": [8], "item_dim": 4, "hidden": 4, "heads": 2}


def test_costs_of_variants_and_sweeps_are_timed_together_and_kept(
    finished: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.experiments.compare.cost.BUDGET_S", 0.1)
    short = ModelChoice("din", {**SMALL, "long": False})
    lrea = ModelChoice("lrea", {**SMALL, "rank": 4, "slots": "hash"})
    swept = ModelChoice("lrea", {**lrea.config, "rank": 2})
    served = [(short, None), (lrea, None), (swept, None), (lrea, 8)]
    told: list[tuple[int, int]] = []

    costs = time_costs(
        served,
        finished.events(),
        tmp_path,
        lambda done, total, note="": told.append((done, total)),
    )

    assert kept_costs(finished.events(), tmp_path) == costs
    longer = finished.events().with_length(16)
    assert kept_costs(longer, tmp_path).of == {}  # of another schema
    assert told == [(done, 5) for done in range(6)]
    assert list(costs.of) == [cost_key(*one) for one in served]
    assert all(0 < c.p10_us <= c.us_per_candidate <= c.p90_us for c in costs.of.values())
    assert all(0 < cost.block <= CANDIDATES for cost in costs.of.values())
    assert costs.machine["cores"]
    recent = finished.recipe.history.recent
    cost = costs.find(short)
    assert cost is not None
    assert cost.state_bytes == record_bytes((), "fp32", USER_ID_BYTES, recent)
    assert costs.find(ModelChoice("din", {"heads": 2})) is None


def test_what_only_training_reads_is_not_part_of_a_cost(tmp_path: Path, finished: Build) -> None:
    plain = ModelChoice("lrea", {"rank": 4, "slots": "items"})
    searched = ModelChoice("lrea", {**plain.config, "dropout": 0.2, "id_dropout": 0.1})
    other = ModelChoice("lrea", {**plain.config, "rank": 2})

    assert cost_key(plain) == cost_key(searched) != cost_key(other)
    assert kept_costs(finished.events(), tmp_path).find(plain) is None  # nothing was timed
