"""A trained model on disk: weights in safetensors, the rest in JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.base import CtrModel
from models.contract.schema import FeatureSchema
from models.registry import build_model

ITEM_FIELDS = "frame.items.item_fields"
"""Name of the catalogue's buffer in the weights: with it a model is rebuilt from the checkpoint alone."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what is needed to build the model around them.

    Attributes:
        model: name in the registry.
        config: the model's config, whole.
        schema: its inputs.
        weights: state dict of the best validated step.
        history: one line per validation: step, train_loss, validation metrics, seconds.
    """

    model: str
    config: Mapping[str, Any]
    schema: FeatureSchema
    weights: Mapping[str, Tensor]
    history: list[dict[str, int | float]]

    def build(self) -> CtrModel:
        """The model, in evaluation mode."""
        model = build_model(self.model, self.schema, self.weights[ITEM_FIELDS], self.config)
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def save(self, folder: Path) -> None:
        """Write to `folder` (made if absent)."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.weights), folder / "weights.safetensors")
        about = {
            "model": self.model, "config": dict(self.config), "schema": asdict(self.schema),
            "history": self.history,
        }  # fmt: skip
        (folder / "checkpoint.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Inverse of `save`."""
        about = json.loads((folder / "checkpoint.json").read_text())
        about["schema"] = FeatureSchema.from_json(about["schema"])
        return cls(**about, weights=load_file(folder / "weights.safetensors"))
