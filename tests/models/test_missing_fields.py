"""Every registered model works on logs that lack a kind of field, in torch and as exported graphs."""

from dataclasses import replace

import pytest

from builder.export.onnx import build_graphs, largest_difference
from models.contract.schema import FeatureSchema, Field
from models.registry import MODELS
from models.sequence.sequence_model import SequenceModel
from tests.cases import CASES, SCHEMA, Case, random_batch
from tests.models.test_models import settled

PLACED = replace(SCHEMA, candidate_fields=(Field("display", 4), Field("mailer", 3)))
SCHEMAS = {
    "no user fields": replace(PLACED, user_fields=()),
    "no context fields": replace(PLACED, context_fields=()),
    "no candidate fields": SCHEMA,
    "items only": replace(SCHEMA, user_fields=(), context_fields=()),
}


def exported_cases() -> list[Case]:
    """The first case of each registered model whose class treats fields in a way of its own: exports are slow.

    Every case of a model has the same fields, and so do all `SequenceModel`s, of which one is exported.
    """
    first = {case.model: case for case in reversed(CASES)}
    by_treatment: dict[object, Case] = {}
    for name, case in first.items():
        shares_frame = issubclass(MODELS[name].model, SequenceModel)
        by_treatment.setdefault(SequenceModel if shares_frame else name, case)
    return list(by_treatment.values())


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
def test_scores_are_finite_in_serving_and_in_training(case: Case, schema: FeatureSchema):
    model, batch = settled(case, schema), random_batch(schema)
    served = model(batch.user, batch.context, batch.slate)
    trained = model.train_forward(batch.user, batch.context, batch.slate).logits
    assert served.shape == trained.shape == batch.label.shape
    assert served.isfinite().all()
    assert trained.isfinite().all()


@pytest.mark.parametrize("case", exported_cases(), ids=str)
def test_the_graphs_of_a_log_of_items_only_score_as_torch_does(case: Case):
    """A log of three columns: user, item, time. All three kinds of fields are empty in one export, which is slow."""
    schema = SCHEMAS["items only"]
    model, sample = settled(case, schema), random_batch(schema)
    assert largest_difference(model, build_graphs(model, sample), sample) < 1e-5
