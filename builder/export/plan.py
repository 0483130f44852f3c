"""A trained model -> its plan (`models/contract/plan.py`), compared with torch. Most models have none."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.base import CtrModel
from models.batch import Batch
from models.blocks.embedding import FieldEmbedding
from models.contract.plan import Floats, ItemSlotsPlan, PlanSizes
from models.contract.plan_reference import plan_logits
from models.contract.schema import FIRST_KNOWN
from models.readers.item_scores import KernelOfItems
from models.readers.item_slots import ItemSlots
from models.sequence.lrea import LREA
from models.sequence.sequence_model import SequenceModel


def plan_of(model: CtrModel, score_graph: bytes) -> ItemSlotsPlan | None:
    """The plan of a model; None unless it reads its history by item slots alone, without counts, by the kernel.

    Args:
        model: in evaluation mode.
        score_graph: the graph that the plan stands for.
    """
    reader = _reader(model)
    if reader is None or not isinstance(model, LREA):
        return None
    score = reader.score
    if not isinstance(score, KernelOfItems):
        return None
    frame, schema = model.frame, model.schema
    head, layout = frame.head, frame.items.layout
    linears = [linear for linear in head.hidden if isinstance(linear, nn.Linear)]
    sizes = PlanSizes(
        num_items=schema.num_items,
        widths=layout.widths,
        described=sum(len(t[0]) for t in _tables(frame.described)[: len(layout.unmatched)]),
        rank=reader.rank,
        heads=reader.heads,
        short_heads=frame.short.heads,
        recent=schema.recent_length,
        profile=frame.profile_dim,
        embedding=model.config.profile_dim,
        context=tuple(field.size for field in schema.context_fields),
        candidate=tuple(field.size for field in schema.candidate_fields),
        layers=(len(head.candidate), *(linear.out_features for linear in linears)),
        slope=float(head.activation.negative_slope),
    )
    with torch.no_grad():
        tensors = _item_tensors(model) | {
            "tau": score.kernel.tau(),
            "short_tau": frame.short.tau(),
            "user": head.user,
            "layer.0": head.candidate,
            "layer_bias.0": head.bias,
            "wide": frame.wide.weight[0],
            "out": head.out.weight[0],
            "out_bias": head.out.bias,
        }
        for depth, linear in enumerate(linears, 1):
            tensors |= {f"layer.{depth}": linear.weight, f"layer_bias.{depth}": linear.bias}
        placed = _tables(frame.described)[len(layout.unmatched) :]
        tensors |= _numbered("context", _tables(frame.context)) | _numbered("candidate", placed)
        arrays: dict[str, Floats] = {name: values.numpy() for name, values in tensors.items()}
    return ItemSlotsPlan(sizes, arrays, hashlib.sha256(score_graph).hexdigest())


def _reader(model: CtrModel) -> ItemSlots | None:
    """The only reader of a model, if it is of item slots; not of a class that extends them."""
    readers = list(model.readers) if isinstance(model, SequenceModel) else []
    reader = readers[0] if len(readers) == 1 else None
    return reader if type(reader) is ItemSlots else None


def _item_tensors(model: SequenceModel) -> dict[str, Tensor]:
    """What the catalogue says of each item: its vector, embeddings of unmatched fields, and bias."""
    frame = model.frame
    every = torch.arange(model.schema.num_items)
    fields = frame.items.item_fields
    unmatched = frame.items.layout.unmatched
    tables = _tables(frame.described)[: len(unmatched)]
    described = [table[fields[:, c]] for table, c in zip(tables, unmatched, strict=True)]
    empty = torch.zeros(len(every), 0)
    return {
        "vectors": frame.items(every),
        "described": torch.cat([empty, *described], 1),
        "item_bias": frame.bias.weight[fields[:, 0], 0],
    }


def _tables(embedding: FieldEmbedding) -> list[Tensor]:
    return [table.get_parameter("weight") for table in embedding.tables]


def _numbered(name: str, tables: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{number}": table for number, table in enumerate(tables)}


def plan_difference(model: CtrModel, plan: ItemSlotsPlan, sample: Batch) -> float:
    """Largest difference of a probability between the plan and torch: of a sample's users, and of one without history.

    Half of the slates are scored with reserved and random rows in place of some candidates.
    """
    rng = np.random.default_rng(0)
    items = sample.slate.items.clone()
    items[::2, :3] = torch.tensor([0, 1, FIRST_KNOWN])[: items.shape[1]]
    history, ages = sample.user.history.clone(), sample.user.ages.clone()
    history[-1], ages[-1] = 0, 0
    items[-1] = torch.from_numpy(rng.integers(0, plan.sizes.num_items, items.shape[1]))
    user = type(sample.user)(history, ages, sample.user.fields)
    slate = type(sample.slate)(items, sample.slate.fields)
    with torch.inference_mode():
        expected = model(user, sample.context, slate).double().sigmoid().numpy()
        states = {name: values.numpy() for name, values in model.encode(user).items()}
    differences = []
    for row, probabilities in enumerate(expected):
        logits = plan_logits(
            plan,
            {name: values[row] for name, values in states.items()},
            sample.context.recent[row].numpy(),
            sample.context.fields[row].numpy(),
            items[row].numpy(),
            sample.slate.fields[row].numpy(),
        )
        differences.append(np.abs(1 / (1 + np.exp(-logits)) - probabilities).max())
    return float(np.max(differences))  # NaN if one is, unlike max()
