"""What is scored: an artifact, real users' records, slates drawn from the catalogue."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from models.base import CtrModel
from models.contract.artifact import ENCODE, WEIGHTS, Artifact, load_artifact
from models.contract.record import UserRecord, decode_record, stack_states
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, FeatureSchema
from models.registry import build_model

Feed = dict[str, NDArray[Any]]
"""Inputs of the score graph: the state's tensors, `recent`, `context_fields`, `items`."""
REQUEST = ("recent", "context_fields", "items")
ITEM_FIELDS = "frame.items.item_fields"
LENGTH = struct.Struct("<I")
SEED = 20261127


@dataclass(frozen=True)
class Inputs:
    """An artifact and records that it made."""

    artifact: Artifact
    records: list[UserRecord]
    raws: list[tuple[str, bytes]]
    """User id and packed record of each of `records`, as they are published."""

    @property
    def schema(self) -> FeatureSchema:
        """The model's inputs."""
        return self.artifact.manifest.schema

    def model(self) -> CtrModel:
        """The trained model in torch, in evaluation mode, on the CPU."""
        weights = load_file(self.artifact.file(WEIGHTS))
        manifest = self.artifact.manifest
        model = build_model(manifest.model, self.schema, weights[ITEM_FIELDS], manifest.config)
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    def feed(self, users: list[int], candidates: int, seed: int = SEED) -> Feed:
        """The score graph's inputs for some users, each with a slate of its own.

        A fifth of a slate is items of the user's recent events, the rest any of the catalogue: so some candidates are
        known to the history and most are not.
        """
        rng = np.random.default_rng([seed, candidates, *users])
        records = [self.records[user % len(self.records)] for user in users]
        feed: Feed = stack_states(
            [record.state for record in records], self.artifact.manifest.state_spec
        )
        feed["recent"] = np.stack([self._recent(record) for record in records])
        sizes = [field.size for field in self.schema.context_fields]
        feed["context_fields"] = rng.integers(UNKNOWN, sizes, (len(users), len(sizes)))
        items = rng.integers(FIRST_KNOWN, self.schema.num_items, (len(users), candidates))
        for row, record in zip(items, records, strict=True):
            known = record.recent[record.recent >= FIRST_KNOWN]
            if len(known):
                row[: candidates // 5] = rng.choice(known, candidates // 5)
        feed["items"] = items
        return feed

    def _recent(self, record: UserRecord) -> NDArray[np.int64]:
        aligned = np.full(self.schema.recent_length, PADDING, np.int64)
        latest = record.recent[-self.schema.recent_length :]
        aligned[len(aligned) - len(latest) :] = latest
        return aligned

    def edge_cases(self, candidates: int) -> dict[str, Feed]:
        """What a real feed seldom has, by name."""
        real = self.feed([0], candidates)
        nobody = real | cold_start(self.artifact)
        cases = {
            "cold start": nobody | {"recent": np.full_like(real["recent"], PADDING)},
            "unknown items": real | {"items": np.full_like(real["items"], UNKNOWN)},
            "padding items": real | {"items": np.full_like(real["items"], PADDING)},
            "no recent events": real | {"recent": np.full_like(real["recent"], PADDING)},
            "one candidate": self.feed([1], 1),
            "first and last row": real | {"items": _ends(real["items"], self.schema.num_items)},
        }
        if "counts" in real:
            # Every other slot emptied, in all the state's tensors that have a row per slot.
            spec = self.artifact.manifest.state_spec
            slotted = {t.name for t in spec if t.shape[:1] == real["counts"].shape[1:]}
            cases["half of the slots empty"] = real | {n: _halved(real[n]) for n in slotted}
        return cases


def _ends(items: NDArray[Any], num_items: int) -> NDArray[Any]:
    return np.where(np.arange(items.shape[1]) % 2, FIRST_KNOWN, num_items - 1)[None]


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    halved = values.copy()
    halved[:, ::2] = 0
    return halved


def cold_start(artifact: Artifact) -> Feed:
    """State of a user of whom nothing is known, with a batch axis, by the artifact's encode graph."""
    schema = artifact.manifest.schema
    session = ort.InferenceSession(str(artifact.file(ENCODE)), providers=["CPUExecutionProvider"])
    feed = {
        "history": np.full((1, schema.history_length), PADDING, np.int64),
        "ages": np.full((1, schema.history_length), PADDING, np.int64),
        "user_fields": np.full((1, len(schema.user_fields)), UNKNOWN, np.int64),
    }
    names = [tensor.name for tensor in artifact.manifest.state_spec]
    taken = {node.name: feed[node.name] for node in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def read_inputs(artifact: Path, records: Path) -> Inputs:
    """Read both.

    Args:
        artifact: its folder.
        records: of a run of the builder (`records.bin`), whole or its beginning, also gzipped.

    Raises:
        ArtifactError: the artifact is damaged.
        RecordError: a record is damaged, or another artifact's.
        ValueError: there are no records.
    """
    loaded = load_artifact(artifact.resolve().parent, artifact.resolve().name)
    raw = gzip.decompress(records.read_bytes()) if records.suffix == ".gz" else records.read_bytes()
    parts, at = [], 0
    while at < len(raw):
        (size,) = LENGTH.unpack_from(raw, at)
        parts.append(raw[at + LENGTH.size : at + LENGTH.size + size])
        at += LENGTH.size + size
    if not parts:
        raise ValueError(f"records: {records} holds none")
    spec = loaded.manifest.state_spec
    found = [decode_record(part, spec, loaded.artifact_id) for part in parts]
    users = [record.user_id for record in found]
    return Inputs(loaded, found, list(zip(users, parts, strict=True)))


def as_tensors(feed: Feed, device: str) -> dict[str, torch.Tensor]:
    """The same as tensors on a device."""
    return {name: torch.from_numpy(np.ascontiguousarray(v)).to(device) for name, v in feed.items()}
