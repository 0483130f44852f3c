"""The score graph has an input for candidate fields where the schema has some, and gives torch's logits with it."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch

from builder.export.onnx import build_graphs, largest_difference, slate_feed
from builder.export.session import open_graph, run_graph, user_feed
from models.base import CtrModel
from models.contract.schema import FeatureSchema, Field
from models.registry import build_model
from tests.cases import SCHEMA, item_fields, random_batch, small

PLACED = replace(SCHEMA, candidate_fields=(Field("display", 4), Field("mailer", 3)))


def model_of(name: str, schema: FeatureSchema) -> CtrModel:
    config = {**small(name), "embedding_std": 0.5}
    model = build_model(name, schema, item_fields(schema), config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # first-order weights start at zero
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def inputs_of(session: ort.InferenceSession) -> dict[str, list[int | str]]:
    return {node.name: node.shape for node in session.get_inputs()}


@pytest.mark.parametrize("name", ["deep_fm", "wukong"])
def test_the_graph_reads_candidate_fields_as_torch_does(name: str) -> None:
    model, sample = model_of(name, PLACED), random_batch(PLACED)
    graphs = build_graphs(model, sample)
    encode, score = open_graph(graphs.encode), open_graph(graphs.score)

    assert inputs_of(score)["candidate_fields"][2] == len(PLACED.candidate_fields)
    assert largest_difference(model, graphs, sample) < 1e-5
    names = [tensor.name for tensor in model.state_spec()]
    for users, candidates in ((1, 1), (3, 40)):  # other sizes than those of the trace
        batch = random_batch(PLACED, users, candidates, seed=1)
        feed = dict(zip(names, run_graph(encode, user_feed(batch.user)), strict=True)) | {
            "recent": batch.context.recent.numpy(),
            "context_fields": batch.context.fields.numpy(),
            **{name: values.numpy() for name, values in slate_feed(batch.slate).items()},
        }
        with torch.no_grad():
            expected = model(batch.user, batch.context, batch.slate).numpy()
        np.testing.assert_allclose(run_graph(score, feed)[0], expected, atol=1e-5)
        others = {**feed, "candidate_fields": 1 + feed["candidate_fields"] % 2}
        assert np.abs(run_graph(score, others)[0] - expected).max() > 1e-3


def test_without_candidate_fields_the_graph_has_no_such_input() -> None:
    sample = random_batch(SCHEMA)
    graphs = build_graphs(model_of("fm", SCHEMA), sample)

    assert list(slate_feed(sample.slate)) == ["items"]
    assert "candidate_fields" not in inputs_of(open_graph(graphs.score))


@pytest.mark.parametrize("name", ["fm", "wukong"])
def test_a_log_without_user_fields_is_exported(name: str) -> None:
    schema = replace(PLACED, user_fields=())
    model, sample = model_of(name, schema), random_batch(schema)

    assert largest_difference(model, build_graphs(model, sample), sample) < 1e-5
