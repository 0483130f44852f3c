"""The input of every model, cut where serving cuts it, and the letters of its axes.

Axis letters, everywhere in this project: B users, L history length, N recent length, C candidates, F fields,
D width, H heads, K kept positions, R rank (slots), M hash families.

Items are rows of the catalogue (`PADDING` = 0, `UNKNOWN` = 1); a history is right-aligned: the newest event is last
and padding comes first.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Not typing.Self: the run-time check of annotations in tests cannot see which class a method belongs to.
Tensors = TypeVar("Tensors", bound="_Tensors")


class _Tensors:
    """Frozen dataclass of tensors that moves between devices as one."""

    def to(self: Tensors, device: torch.device) -> Tensors:
        """The same on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**moved)


@dataclass(frozen=True)
class User(_Tensors):
    """What `encode` sees: known offline."""

    history: Int[Tensor, "B L"]
    ages: Int[Tensor, "B L"]
    """Bucket of each event's age (`models/contract/age.py`); `PADDING` where the history has none."""
    fields: Int[Tensor, "B Fu"]


@dataclass(frozen=True)
class Context(_Tensors):
    """What only a request knows."""

    recent: Int[Tensor, "B N"]
    fields: Int[Tensor, "B Fc"]


@dataclass(frozen=True)
class Slate(_Tensors):
    """Candidates of each user."""

    items: Int[Tensor, "B C"]


@dataclass(frozen=True)
class Batch:
    """One training or evaluation step. `mask` is true where a candidate is real."""

    user: User
    context: Context
    slate: Slate
    label: Float[Tensor, "B C"]
    mask: Bool[Tensor, "B C"]

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        parts = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        return Batch(**parts)
