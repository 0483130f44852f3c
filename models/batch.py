"""The input of every model, split into the parts that are known offline, per request and per candidate.

Axis letters, the same everywhere in this project: B users, L history length, N recent length, C candidates, F fields,
D width, H heads, K kept positions, R rank (slots), M hash families.

Items are rows of the catalogue (`PADDING` = 0, `UNKNOWN` = 1). A history is right-aligned: padding comes first, and the
newest event is last.
"""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Not typing.Self: beartype, which checks annotations in tests, cannot resolve it here.
Tensors = TypeVar("Tensors", bound="_Tensors")


class _Tensors:
    """Base of frozen dataclasses of tensors, which move to a device together."""

    def to(self: Tensors, device: torch.device, *, non_blocking: bool = False) -> Tensors:
        """A copy with all tensors on `device`; with `non_blocking` from pinned memory, the caller does not wait."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)  # type: ignore[arg-type]
        }
        return type(self)(**moved)

    def pinned(self: Tensors) -> Tensors:
        """A copy in memory from which a GPU reads by itself."""
        return type(self)(**{f.name: _pinned(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]


def _pinned(values: Tensor) -> Tensor:
    return values.pin_memory() if values.numel() else values


@dataclass(frozen=True)
class User(_Tensors):
    """The input of `encode`: what is known of a user offline.

    Attributes:
        history: catalogue rows of the latest L events.
        ages: bucket of each event's age (`models/contract/age.py`); `PADDING` where the history is padding.
        fields: dense ids of the profile's fields.
    """

    history: Int[Tensor, "B L"]
    ages: Int[Tensor, "B L"]
    fields: Int[Tensor, "B Fu"]


@dataclass(frozen=True)
class Context(_Tensors):
    """What is known only with a request.

    Attributes:
        recent: catalogue rows of the latest N events.
        fields: dense ids of the context's fields.
    """

    recent: Int[Tensor, "B N"]
    fields: Int[Tensor, "B Fc"]


@dataclass(frozen=True)
class Slate(_Tensors):
    """The candidates of each user.

    Attributes:
        items: their catalogue rows.
        fields: dense ids of their candidate fields, which a request gives; Fs may be 0.
    """

    items: Int[Tensor, "B C"]
    fields: Int[Tensor, "B C Fs"]

    @classmethod
    def of(cls, items: Int[Tensor, "B C"]) -> "Slate":
        """A slate of candidates without candidate fields."""
        return cls(items, items.new_zeros(*items.shape, 0))


@dataclass(frozen=True)
class Batch:
    """The input of one training or evaluation step.

    Attributes:
        user: users.
        context: context of each user's request.
        slate: candidates of each request.
        label: 1 where the candidate was clicked or bought, else 0.
        mask: true where a slate holds a candidate, false where it is padded.
        weight: weight of each candidate in the loss; 0 where the slate is padded.
        offset: what sampling adds to a candidate's log odds: log of the sampling rate of positives over that of
            negatives. The loss compares the label with logit + offset, so that the logit is that of the real task.
    """

    user: User
    context: Context
    slate: Slate
    label: Float[Tensor, "B C"]
    mask: Bool[Tensor, "B C"]
    weight: Float[Tensor, "B C"]
    offset: Float[Tensor, "B 1"]

    @classmethod
    def unweighted(
        cls,
        user: User,
        context: Context,
        slate: Slate,
        label: Float[Tensor, "B C"],
        mask: Bool[Tensor, "B C"],
    ) -> "Batch":
        """A batch in which every candidate counts alike and log odds need no correction."""
        return cls(
            user, context, slate, label, mask, mask.to(label.dtype), label.new_zeros(len(label), 1)
        )

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Batch":
        """A copy with all tensors on `device`; with `non_blocking` from pinned memory, the caller does not wait."""
        parts = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)
        }
        return Batch(**parts)

    def pinned(self) -> "Batch":
        """A copy in memory from which a GPU reads by itself."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, part in parts.items():
            parts[name] = _pinned(part) if isinstance(part, Tensor) else part.pinned()
        return Batch(**parts)
