"""Damaged artifacts: good weights that are served wrongly."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from builder.ingest.events import Events
from models.contract.age import age_buckets
from models.contract.artifact import ENCODE, VOCABULARY, Artifact, save_artifact
from models.contract.calibration import (
    CALIBRATION,
    Calibration,
    Temperature,
    calibration_to_bytes,
)
from models.contract.plan import PLAN
from models.contract.schema import FIRST_KNOWN


def _with_file(good: Artifact, name: str, content: bytes, *dropped: str) -> Artifact:
    contents = {kept: good.read(kept) for kept in good.manifest.files if kept not in dropped}
    return save_artifact(good.path.parent, good.manifest, {**contents, name: content})


def exported_again(good: Artifact) -> Artifact:
    """The same model under another id."""
    contents = {name: good.read(name) for name in good.manifest.files}
    manifest = replace(good.manifest, report={**good.manifest.report, "again": 1})
    return save_artifact(good.path.parent, manifest, contents)


def with_items(good: Artifact, items: Sequence[str]) -> Artifact:
    """The model, whose rows belong to other items; [V], as many as before."""
    vocabulary = replace(good.vocabulary, items=list(items))
    return _with_file(good, VOCABULARY, vocabulary.to_bytes())


def shifted_items(good: Artifact) -> Artifact:
    """The model whose vocabulary is one row off."""
    items = good.vocabulary.items
    return with_items(good, [*items[1:], items[0]])


def items_of_another_week(good: Artifact, events: Events) -> Artifact:
    """The model with the vocabulary of an earlier catalogue: without the newest twentieth of the items.

    They take the rows at the end, so every row behind the first of them has moved. An item is as old as its first
    event; one without events is old.
    """
    first_s = np.zeros(len(events.item_fields), np.int64)
    latest_first = np.argsort(-np.asarray(events.ts_s), kind="stable")
    first_s[np.asarray(events.item)[latest_first]] = np.asarray(events.ts_s)[latest_first]
    first_s = first_s[FIRST_KNOWN:]
    is_new = np.zeros(len(first_s), bool)
    is_new[np.argsort(first_s, kind="stable")[-max(1, len(first_s) // 20) :]] = True
    items = np.array(good.vocabulary.items, object)
    return with_items(good, [*items[~is_new], *items[is_new]])


def with_odds(good: Artifact, factor: float) -> Artifact:
    """The model that answers `factor` times the odds."""
    kept, shift = good.calibration(), math.log(factor)
    changed: Calibration
    if kept is None:
        changed = Temperature(1.0, shift)
    elif isinstance(kept, Temperature):
        changed = replace(kept, shift=kept.shift + shift)
    else:
        changed = replace(kept, log_odds_at=tuple(odds + shift for odds in kept.log_odds_at))
    return _with_file(good, CALIBRATION, calibration_to_bytes(changed))


def without_histories(good: Artifact) -> Artifact:
    """The model whose encode graph gets padding for every event: a feed of histories that is empty."""
    return _with_input(good, "history", "Mul", 0)


def with_padded_ages(good: Artifact) -> Artifact:
    """The model whose encode graph gets padding for every age."""
    return _with_input(good, "ages", "Mul", 0)


def without_ages(good: Artifact) -> Artifact:
    """The model whose encode graph gets the newest age for every event, as of a feed that has lost its times."""
    return _with_input(good, "ages", "Min", int(age_buckets(np.zeros(1, np.int64))[0]))


def _with_input(good: Artifact, name: str, operator: str, operand: int) -> Artifact:
    """The model whose encode graph changes an input by a number before it reads it."""
    model = onnx.load_from_string(good.graph(ENCODE))
    for node in model.graph.node:
        node.input[:] = [f"{name} broken" if one == name else one for one in node.input]
    number = numpy_helper.from_array(np.array(operand, np.int64), f"{name} operand")
    model.graph.initializer.append(number)
    broken = helper.make_node(operator, [name, number.name], [f"{name} broken"])
    model.graph.node.insert(0, broken)
    return _with_file(good, ENCODE, model.SerializeToString(), PLAN)
