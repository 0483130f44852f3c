"""Cost: of every model of a comparison, timed together once."""

from pathlib import Path

import pytest

from builder.experiments.compare.cost import CANDIDATES, cost_key, find_costs
from builder.pipeline import Build
from builder.recipe.models import ModelChoice
from models.contract.record import USER_ID_BYTES, record_bytes

SMALL = {"mlp": [8], "item_dim": 4, "hidden": 4, "heads": 2}


def test_cost_is_measured_once_for_variants_and_sweeps(
    finished: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.experiments.compare.cost.BUDGET_S", 0.1)
    short = ModelChoice("din", {**SMALL, "long": False})
    lrea = ModelChoice("lrea", {**SMALL, "rank": 4, "slots": "hash"})
    swept = ModelChoice("lrea", {**lrea.config, "rank": 2})
    served = [(short, None), (lrea, None), (swept, None), (lrea, 8)]
    told: list[tuple[int, int]] = []

    costs, again = (
        find_costs(
            served,
            finished.events(),
            tmp_path,
            lambda done, total, note="": told.append((done, total)),
        )
        for _ in range(2)
    )

    assert again == costs
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
