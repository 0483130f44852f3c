"""No graph with data in another file is written."""

from types import SimpleNamespace

import onnx
import pytest
import torch

from builder.export.onnx import build_graphs
from models.contract.errors import ArtifactError
from models.contract.onnx_graph import require_self_contained
from models.registry import build_model
from tests.cases import SCHEMA, item_fields, random_batch, small
from tests.service.toy import outside_score_graph


def test_exported_graphs_keep_their_data_in_their_own_bytes() -> None:
    model = build_model("fm", SCHEMA, item_fields(SCHEMA), small("fm")).eval()

    graphs = build_graphs(model, random_batch(SCHEMA))

    for raw in (graphs.encode, graphs.score):
        require_self_contained(raw, "graph")
    assert onnx.load_from_string(graphs.score).graph.initializer


def test_an_exporter_that_puts_data_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("fm", SCHEMA, item_fields(SCHEMA), small("fm")).eval()
    program = SimpleNamespace(model_proto=onnx.load_from_string(outside_score_graph()))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)

    with pytest.raises(ArtifactError, match="tensor 'listed' keeps its data outside the model"):
        build_graphs(model, random_batch(SCHEMA))
