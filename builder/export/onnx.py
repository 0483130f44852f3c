"""Checkpoint + Report -> Artifact: weights, two ONNX graphs that were compared with torch, and the manifest."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from builder.checkpoint import Checkpoint
from builder.errors import ExportMismatchError
from builder.export.example_slate import latest_slate
from builder.export.plan import plan_difference, plan_of
from builder.export.prototypes import make_prototypes, with_prototypes, with_some
from builder.export.session import open_graph, run_graph, user_feed
from builder.ingest.events import Events
from builder.provenance import code_revision
from models.base import CtrModel
from models.batch import Batch, Context, Slate, User
from models.contract.artifact import (
    ENCODE,
    EVENT,
    SCORE,
    VOCABULARY,
    WEIGHTS,
    Artifact,
    Manifest,
    save_artifact,
)
from models.contract.calibration import CALIBRATION, calibration_of, calibration_to_bytes
from models.contract.example_slate import EXAMPLE_SLATE
from models.contract.item_texts import ITEM_TEXTS, texts_to_bytes
from models.contract.onnx_graph import require_self_contained
from models.contract.plan import PLAN, plan_to_bytes
from models.contract.vocabulary import Vocabulary
from models.live.additive import is_additive

logger = logging.getLogger(__name__)

OPSET = 18
"""First opset whose reductions all take their axes as inputs; ScatterElements adds since opset 16."""
LIMIT = 1e-4
"""Largest difference of a probability between the graphs and torch with which an artifact is written."""


class EncodeGraph(nn.Module):
    """history [B, L], ages [B, L], user_fields [B, Fu] -> state tensors in the order of the state spec."""

    def __init__(self, model: CtrModel) -> None:
        super().__init__()
        self.model = model
        self.names = [tensor.name for tensor in model.state_spec()]

    def forward(self, history: Tensor, ages: Tensor, user_fields: Tensor) -> tuple[Tensor, ...]:
        """Encode."""
        state = self.model.encode(User(history, ages, user_fields))
        return tuple(state[name] for name in self.names)


class ScoreGraph(nn.Module):
    """State tensors, recent [B, N], context_fields [B, Fc], items [B, C], candidate_fields [B, C, Fs] -> logits [B, C].

    A model without candidate fields is called, and traced, without the last input.
    """

    def __init__(self, model: CtrModel) -> None:
        super().__init__()
        self.model = model
        self.names = [tensor.name for tensor in model.state_spec()]

    def forward(
        self,
        state: tuple[Tensor, ...],
        recent: Tensor,
        context_fields: Tensor,
        items: Tensor,
        candidate_fields: Tensor | None = None,
    ) -> Tensor:
        """Score."""
        named = dict(zip(self.names, state, strict=True))
        slate = Slate.of(items) if candidate_fields is None else Slate(items, candidate_fields)
        return self.model.score(named, Context(recent, context_fields), slate)


@dataclass(frozen=True)
class Graphs:
    """Both graphs as ONNX bytes."""

    encode: bytes
    score: bytes


def export(
    checkpoint: Checkpoint,
    report: Mapping[str, Any],
    recipe: Mapping[str, Any],
    events: Events,
    sample: Batch,
    root: Path,
    request_gap_s: int = 0,
) -> Artifact:
    """Write the artifact.

    Args:
        checkpoint: the trained model.
        report: metrics for the manifest; with a calibration that was kept, the artifact gets it.
        recipe: every key of the recipe, for the manifest.
        events: the log, for its vocabulary and the time of its last event.
        sample: users and slates of the log on which the graphs are compared with torch.
        root: folder of all artifacts.
        request_gap_s: as in the manifest.

    Raises:
        ExportMismatchError: the graphs or the plan, and torch, give different scores.
    """
    checkpoint, vocabulary, sample = _with_prototypes(checkpoint, events, sample)
    model = checkpoint.build()
    graphs = build_graphs(model, sample)
    difference = largest_difference(model, graphs, sample)
    logger.info("largest difference of a score between ONNX and torch: %.2e", difference)
    if not difference <= LIMIT:
        raise ExportMismatchError(difference, LIMIT)
    manifest = Manifest(
        model=checkpoint.model,
        config=dict(checkpoint.config),
        schema=checkpoint.schema,
        state_spec=model.state_spec(),
        report=dict(report),
        recipe=dict(recipe),
        code_revision=code_revision(),
        onnx_difference=difference,
        as_of_s=events.as_of_s,
        files={},
        request_gap_s=request_gap_s,
    )
    contents = {
        WEIGHTS: to_safetensors(dict(checkpoint.weights)),
        ENCODE: graphs.encode,
        SCORE: graphs.score,
        VOCABULARY: vocabulary.to_bytes(),
    }
    if is_additive(model.state_spec()):
        contents[EVENT] = event_graph(model, sample)
    if events.item_texts is not None:
        contents[ITEM_TEXTS] = texts_to_bytes(events.item_texts)
    calibration = (report.get("calibration") or {}).get("kept")
    if calibration is not None:
        contents[CALIBRATION] = calibration_to_bytes(calibration_of(calibration))
    plan = _plan(model, graphs, sample)
    if plan is not None:
        contents[PLAN] = plan
    slate = latest_slate(events)
    if slate is not None:
        contents[EXAMPLE_SLATE] = slate.to_bytes()
    return save_artifact(root, manifest, contents)


def _with_prototypes(
    checkpoint: Checkpoint, events: Events, sample: Batch
) -> tuple[Checkpoint, Vocabulary, Batch]:
    """All three with rows for items that the build does not know, if there are any."""
    prototypes = make_prototypes(events)
    vocabulary = replace(events.vocabulary, prototypes=prototypes)
    if prototypes is not None:
        sample = with_some(sample, vocabulary.first_prototype, len(prototypes))
    return with_prototypes(checkpoint, events, prototypes), vocabulary, sample


def _plan(model: CtrModel, graphs: Graphs, sample: Batch) -> bytes | None:
    """The plan's file, compared with torch; None for a model without one."""
    plan = plan_of(model, graphs.score)
    if plan is None:
        return None
    difference = plan_difference(model, plan, sample)
    logger.info("largest difference of a score between plan and torch: %.2e", difference)
    if not difference <= LIMIT:
        raise ExportMismatchError(difference, LIMIT)
    return plan_to_bytes(plan)


def build_graphs(model: CtrModel, sample: Batch) -> Graphs:
    """Trace both halves, with dynamic numbers of users and candidates."""
    encode, score = EncodeGraph(model).eval(), ScoreGraph(model).eval()
    user, context, slate = sample.user, sample.context, sample.slate
    with torch.no_grad():
        state = encode(user.history, user.ages, user.fields)
    users = torch.export.Dim("users", min=1, max=65536)
    candidates = torch.export.Dim("candidates", min=1, max=1 << 20)
    in_slate = slate_feed(slate)
    return Graphs(
        _trace(
            encode,
            (user.history, user.ages, user.fields),
            ["history", "ages", "user_fields"],
            encode.names,
            ({0: users}, {0: users}, {0: users}),
        ),
        _trace(
            score,
            (state, context.recent, context.fields, *in_slate.values()),
            [*score.names, "recent", "context_fields", *in_slate],
            ["logits"],
            (
                tuple({0: users} for _ in state),
                {0: users},
                {0: users},
                *({0: users, 1: candidates} for _ in in_slate),
            ),
        ),
    )


def event_graph(model: CtrModel, sample: Batch) -> bytes:
    """The encode graph of histories of one event."""
    encode, user = EncodeGraph(model).eval(), sample.user
    users = torch.export.Dim("users", min=1, max=1 << 20)
    return _trace(
        encode,
        (user.history[:, -1:], user.ages[:, -1:], user.fields),
        ["history", "ages", "user_fields"],
        encode.names,
        ({0: users}, {0: users}, {0: users}),
    )


def slate_feed(slate: Slate) -> dict[str, Tensor]:
    """Inputs of the score graph that describe the candidates: there are candidate fields only if the schema has any."""
    items = {"items": slate.items}
    return items | ({"candidate_fields": slate.fields} if slate.fields.shape[2] else {})


def _trace(
    graph: nn.Module, inputs: tuple[Any, ...], names: list[str], outputs: list[str], shapes: Any
) -> bytes:
    # The exporter warns once per operator of torchvision, which this project does not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The warnings are about the exporter's own internals (deprecated pytree calls, copied constants).
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            inputs,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    raw: bytes = program.model_proto.SerializeToString()
    require_self_contained(raw, f"graph with the outputs {', '.join(outputs)}")
    return raw


def largest_difference(model: CtrModel, graphs: Graphs, sample: Batch) -> float:
    """Largest difference of a probability between the graphs and torch, for several numbers of users and candidates."""
    encode, score = open_graph(graphs.encode), open_graph(graphs.score)
    names = [tensor.name for tensor in model.state_spec()]
    differences = []
    users, candidates = sample.slate.items.shape
    for user, size in [
        (slice(None), candidates),
        (slice(0, 1), 1),
        (slice(users - 1, users), candidates),
    ]:
        part = _part(sample, user, size)
        with torch.inference_mode():
            expected = model(part.user, part.context, part.slate).sigmoid().numpy()
        state = run_graph(encode, user_feed(part.user))
        feed = dict(zip(names, state, strict=True)) | {
            "recent": part.context.recent.numpy(),
            "context_fields": part.context.fields.numpy(),
            **{name: values.numpy() for name, values in slate_feed(part.slate).items()},
        }
        got = 1 / (1 + np.exp(-run_graph(score, feed)[0].astype(np.float64)))
        differences.append(np.abs(got - expected).max())
    return float(np.max(differences))  # NaN if one is, unlike max()


def _part(sample: Batch, user: slice, size: int) -> Batch:
    return Batch.unweighted(
        User(sample.user.history[user], sample.user.ages[user], sample.user.fields[user]),
        Context(sample.context.recent[user], sample.context.fields[user]),
        Slate(sample.slate.items[user, :size], sample.slate.fields[user, :size]),
        sample.label[user, :size],
        sample.mask[user, :size],
    )
