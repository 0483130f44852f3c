"""A training on disk after each validation: killed and started again, it ends with the same weights."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.train.clipping import Clipping
from builder.train.optimiser import RunningMean
from builder.train.stopping import Stopping
from models.base import CtrModel

STATE, TENSORS = "training.json", "training.safetensors"


@dataclass
class Kept:
    """What a training keeps of the step that validated best.

    Attributes:
        weights: state dict that was validated.
        left: tensors of a `WarmStart`.
        dropped: times that the learning rate had been lowered.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, Tensor] = field(default_factory=dict)
    dropped: int = 0


class Saved:
    """The state of a training in a folder: weights, their mean, the best ones, the optimiser, the curve.

    Batches and dropout depend on the seed and the step alone, so there is no state of random numbers.

    Args:
        folder: made if absent.
        key: of what is trained; a state with another key is not used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def write(
        self,
        model: CtrModel,
        mean: RunningMean,
        optimizer: torch.optim.Optimizer,
        stopping: Stopping,
        clipping: Clipping,
        kept: Kept,
        seconds: float,
    ) -> None:
        """Replace the state."""
        self._folder.mkdir(parents=True, exist_ok=True)
        groups = {
            "weights": model.state_dict(),
            "mean": mean.model.state_dict(),
            "best": kept.weights,
            "left": kept.left,
        }
        tensors = {
            f"{group}/{name}": value
            for group, values in groups.items()
            for name, value in values.items()
        }
        tensors["clipping/mean"] = clipping.mean
        for place, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{place}/{name}": value for name, value in state.items()}
        step = stopping.curve[-1]["step"]
        # The tensors first, under a name of their own: the JSON names them.
        file = self._folder / f"{step}-{TENSORS}"
        save_file(
            {name: value.detach().clone().contiguous() for name, value in tensors.items()}, file
        )
        state = {
            "key": self._key,
            "tensors": file.name,
            "seconds": seconds,
            "kept_dropped": kept.dropped,
            **stopping.to_dict(),
        }
        staged = self._folder / f"{STATE}.new"
        staged.write_text(json.dumps(state))
        staged.replace(self._folder / STATE)
        for old in self._folder.glob(f"*-{TENSORS}"):
            if old != file:
                old.unlink()

    def read(
        self,
        model: CtrModel,
        mean: RunningMean,
        optimizer: torch.optim.Optimizer,
        stopping: Stopping,
        clipping: Clipping,
    ) -> tuple[Kept, float]:
        """Set everything to the saved state, if there is one; return what is kept and the seconds so far."""
        state = self._state()
        if state is None:
            return Kept(), 0.0
        device = next(model.parameters()).device
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in load_file(self._folder / state["tensors"], str(device)).items():
            group, rest = name.split("/", 1)
            groups.setdefault(group, {})[rest] = value
        model.load_state_dict(groups["weights"])
        mean.model.load_state_dict(groups["mean"])
        if "clipping" in groups:  # not in states of trainings from before there was clipping
            clipping.mean.copy_(groups["clipping"]["mean"])
        own = optimizer.state_dict()
        own["state"] = {}
        for name, value in groups.get("optimizer", {}).items():
            place, key = name.split("/", 1)
            own["state"].setdefault(int(place), {})[key] = value
        optimizer.load_state_dict(own)
        stopping.curve, stopping.best = state["curve"], state["best"]
        stopping.bad, stopping.dropped = state["bad"], state["dropped"]
        kept = Kept(groups["best"], groups.get("left", {}), state.get("kept_dropped", 0))
        return kept, float(state["seconds"])

    def forget(self) -> None:
        """Remove the state."""
        for file in (*self._folder.glob(f"*-{TENSORS}"), self._folder / STATE):
            file.unlink(missing_ok=True)

    def _state(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads((self._folder / STATE).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return (
            state
            if state.get("key") == self._key and (self._folder / state["tensors"]).is_file()
            else None
        )
