"""Models with item slots that the kernel scores get a plan that scores as torch; other models get none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from builder.errors import ExportMismatchError
from builder.export import onnx
from builder.export.plan import plan_difference, plan_of
from models.contract.plan import PLAN
from models.registry import build_model
from models.sequence.lrea import LREA
from tests.builds import Builds, with_placed_pools
from tests.cases import CASES, SCHEMA, Case, item_fields

WITH_PLAN = [Case("lrea", "items"), Case("lrea", "activity")]


@pytest.mark.parametrize("case", WITH_PLAN, ids=str)
def test_an_artifact_of_item_slots_has_a_plan_that_scores_as_torch(builds: Builds, case: Case):
    artifact = builds.artifact(case)
    plan = artifact.plan()
    assert plan is not None
    assert PLAN in artifact.manifest.files
    assert plan_difference(builds.checkpoint(case).build(), plan, builds.batch(case)) < 1e-6


def test_a_plan_has_candidate_fields(builds: Builds):
    placed = Builds(builds.artifacts, with_placed_pools(builds.events))
    model = placed.checkpoint(WITH_PLAN[0]).build()
    plan = plan_of(model, b"graph")
    assert plan is not None
    assert len(plan.sizes.candidate) == 2
    assert plan_difference(model, plan, placed.batch(WITH_PLAN[0])) < 1e-6


@pytest.mark.parametrize("case", [c for c in CASES if c not in WITH_PLAN], ids=str)
def test_other_models_have_none(case: Case):
    model = build_model(case.model, SCHEMA, item_fields(), case.config)
    assert plan_of(model, b"graph") is None


@pytest.mark.parametrize("name", ["tau", "short_tau", "layer.0", "wide", "item_bias", "vectors"])
def test_a_plan_that_scores_otherwise_is_not_written(
    builds: Builds, name: str, monkeypatch: pytest.MonkeyPatch
):
    case = WITH_PLAN[0]
    model, batch = builds.checkpoint(case).build(), builds.batch(case)
    right = plan_of(model, b"graph")
    assert right is not None
    wrong = replace(right, tensors={**right.tensors, name: np.abs(right.tensors[name] * 1.5 + 0.1)})
    assert plan_difference(model, wrong, batch) > onnx.LIMIT
    monkeypatch.setattr(onnx, "plan_of", lambda *_: wrong)
    with pytest.raises(ExportMismatchError, match="differ from torch's"):
        onnx._plan(model, onnx.Graphs(b"", b"graph"), batch)


def test_a_difference_that_is_no_number_is_not_small(builds: Builds):
    case = WITH_PLAN[0]
    model = builds.checkpoint(case).build()
    plan = plan_of(model, b"graph")
    assert plan is not None
    assert isinstance(model, LREA)
    with torch.no_grad():
        model.frame.wide.weight[0, 0] = torch.nan
    assert not plan_difference(model, plan, builds.batch(case)) <= onnx.LIMIT
