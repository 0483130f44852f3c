"""Inputs of the engines: an artifact, records of real users, and slates drawn from the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.torch import load

from loadtest.record_file import read_record_file
from models.base import CtrModel
from models.contract.artifact import ENCODE, WEIGHTS, Artifact, load_artifact
from models.contract.record import UserRecord, decode_record
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, FeatureSchema
from models.contract.state_spec import stack_states
from models.registry import build_model

Value = TypeVar("Value")
Feed = dict[str, NDArray[Any]]
"""Inputs of the score graph: the state's tensors, and those of `REQUEST`."""
REQUEST = ("recent", "context_fields", "items", "candidate_fields")
"""Inputs that a request brings; the last one only if the model has candidate fields."""
ITEM_FIELDS = "frame.items.item_fields"
SEED = 20261127


def request_of(inputs: Mapping[str, Value]) -> dict[str, Value]:
    """The inputs that a request brings."""
    return {name: inputs[name] for name in REQUEST if name in inputs}


@dataclass(frozen=True)
class Inputs:
    """An artifact and records that it made.

    Attributes:
        artifact: the artifact.
        records: decoded records.
        packed: user id and packed record of each of `records`, as they are published.
    """

    artifact: Artifact
    records: Sequence[UserRecord]
    packed: Sequence[tuple[str, bytes]]

    @property
    def schema(self) -> FeatureSchema:
        """Inputs of the model."""
        return self.artifact.manifest.schema

    def model(self) -> CtrModel:
        """The trained model in torch, in evaluation mode, on the CPU."""
        weights = load(self.artifact.read(WEIGHTS))
        manifest = self.artifact.manifest
        model = build_model(manifest.model, self.schema, weights[ITEM_FIELDS], manifest.config)
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    def feed(self, users: Sequence[int], candidates: int, seed: int = SEED) -> Feed:
        """Inputs of the score graph for some users, each with a slate of its own.

        A fifth of each slate is drawn from the user's recent events, the rest from the catalogue: so some candidates
        are in the history and most are not.

        Args:
            users: positions in `records`; larger numbers start again at 0.
            candidates: C, length of each slate.
            seed: seed of the slates.
        """
        rng = np.random.default_rng([seed, candidates, *users])
        records = [self.records[user % len(self.records)] for user in users]
        states = [record.state for record in records]
        feed: Feed = stack_states(states, self.artifact.manifest.state_spec)
        feed["recent"] = np.stack([self._recent(record) for record in records])
        sizes = [field.size for field in self.schema.context_fields]
        feed["context_fields"] = rng.integers(UNKNOWN, sizes, (len(users), len(sizes)))
        items = rng.integers(FIRST_KNOWN, self.schema.num_items, (len(users), candidates))
        for slate, record in zip(items, records, strict=True):
            known = record.recent[record.recent >= FIRST_KNOWN]
            if len(known):
                slate[: candidates // 5] = rng.choice(known, candidates // 5)
        feed["items"] = items
        sizes = [field.size for field in self.schema.candidate_fields]
        if sizes:
            feed["candidate_fields"] = rng.integers(UNKNOWN, sizes, (*items.shape, len(sizes)))
        return feed

    def _recent(self, record: UserRecord) -> NDArray[np.int64]:
        recent = np.full(self.schema.recent_length, PADDING, np.int64)
        latest = record.recent[-self.schema.recent_length :]
        recent[len(recent) - len(latest) :] = latest
        return recent

    def edge_cases(self, candidates: int) -> dict[str, Feed]:
        """Inputs that real requests seldom have, by name."""
        real = self.feed([0], candidates)
        no_recent = {"recent": np.full_like(real["recent"], PADDING)}
        cases = {
            "cold start": real | cold_start(self.artifact) | no_recent,
            "unknown items": real | {"items": np.full_like(real["items"], UNKNOWN)},
            "padding items": real | {"items": np.full_like(real["items"], PADDING)},
            "no recent events": real | no_recent,
            "one candidate": self.feed([1], 1),
            "first and last row": real | {"items": _ends(real["items"], self.schema.num_items)},
        }
        if "candidate_fields" in real:
            unknown = np.full_like(real["candidate_fields"], UNKNOWN)
            cases["unknown candidate fields"] = real | {"candidate_fields": unknown}
        if "slot_items" in real:
            holes = {name: _halved(real[name]) for name in ("slot_items", "slot_sums")}
            cases["half of the slots empty"] = real | holes
        if "slot_counts" in real:
            # Every other slot is emptied, in all tensors of the state that have a row per slot.
            num_slots = real["slot_counts"].shape[1:2]
            spec = self.artifact.manifest.state_spec
            per_slot = [tensor.name for tensor in spec if tensor.shape[:1] == num_slots]
            cases["half of the slots empty"] = real | {n: _halved(real[n]) for n in per_slot}
        return cases


def _ends(items: NDArray[Any], num_items: int) -> NDArray[Any]:
    return np.where(np.arange(items.shape[1]) % 2, FIRST_KNOWN, num_items - 1)[None]


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    halved = values.copy()
    halved[:, ::2] = 0
    return halved


def cold_start(artifact: Artifact) -> Feed:
    """State of a user without events and profile, with a batch axis, from the artifact's encode graph."""
    schema = artifact.manifest.schema
    session = ort.InferenceSession(artifact.graph(ENCODE), providers=["CPUExecutionProvider"])
    feed = {
        "history": np.full((1, schema.history_length), PADDING, np.int64),
        "ages": np.full((1, schema.history_length), PADDING, np.int64),
        "user_fields": np.full((1, len(schema.user_fields)), UNKNOWN, np.int64),
    }
    names = [tensor.name for tensor in artifact.manifest.state_spec]
    used = {node.name: feed[node.name] for node in session.get_inputs()}
    return dict(zip(names, session.run(names, used), strict=True))


def read_inputs(artifact: Path, records: Path) -> Inputs:
    """Read an artifact and its records.

    Args:
        artifact: the artifact's folder.
        records: `records.bin` of a run of the builder, or its first records; may be gzipped (`.gz`).

    Raises:
        ArtifactError: the artifact is damaged.
        RecordError: a record is damaged, or was made by another artifact.
        ValueError: the file holds no record.
    """
    loaded = load_artifact(artifact.resolve().parent, artifact.resolve().name)
    raws = read_record_file(records)
    spec = loaded.manifest.state_spec
    decoded = [decode_record(raw, spec, loaded.artifact_id) for raw in raws]
    packed = [(record.user_id, raw) for record, raw in zip(decoded, raws, strict=True)]
    return Inputs(loaded, decoded, packed)
