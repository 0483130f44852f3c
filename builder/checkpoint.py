"""A trained model on disk: weights in safetensors, the rest in JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.base import CtrModel
from models.contract.schema import FeatureSchema
from models.registry import build_model

if TYPE_CHECKING:
    from builder.train.warm_start import WarmStart

ITEM_FIELDS = "frame.items.item_fields"
"""Name of the catalogue's buffer in the weights. It lets a checkpoint be rebuilt without the events."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what is needed to rebuild the model with them.

    Attributes:
        model: name in the registry.
        config: every key of the model's config.
        schema: the model's inputs.
        weights: state dict of the step with the best validation.
        history: learning curve, one entry per validation: step, epoch, train_loss, validation metrics, learning_rate,
            seconds.
        best_step: step of the weights.
        ended: why training ended: "patience" (it had stopped improving), "max_steps" or "time".
        left: what a later training can go on from. None: nothing, or the checkpoint was read from a folder, where
            `WarmStart.load` finds it.
    """

    model: str
    config: Mapping[str, Any]
    schema: FeatureSchema
    weights: Mapping[str, Tensor]
    history: list[dict[str, Any]]
    best_step: int
    ended: str
    left: "WarmStart | None" = None

    @property
    def best(self) -> dict[str, Any]:
        """The validation of the weights."""
        return next(line for line in self.history if line["step"] == self.best_step)

    def build(self) -> CtrModel:
        """Rebuild the model, in evaluation mode."""
        model = build_model(self.model, self.schema, self.weights[ITEM_FIELDS], self.config)
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def save(self, folder: Path) -> None:
        """Write the checkpoint to `folder`, which is made if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.weights), folder / "weights.safetensors")
        description = {
            "model": self.model,
            "config": dict(self.config),
            "schema": asdict(self.schema),
            "history": self.history,
            "best_step": self.best_step,
            "ended": self.ended,
        }
        (folder / "checkpoint.json").write_text(json.dumps(description, indent=1))
        if self.left is not None:
            self.left.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Read what `save` wrote."""
        description = json.loads((folder / "checkpoint.json").read_text())
        description["schema"] = FeatureSchema.from_json(description["schema"])
        return cls(**description, weights=load_file(folder / "weights.safetensors"))
