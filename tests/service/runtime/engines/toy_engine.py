"""A second engine for toys, in numpy, and its ways to fail: an engine as `ENGINES` lists them.

It serves a toy whose state's arithmetic is that of `tests/service/toy.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.contract.artifact import Artifact
from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate, Limits, Logits, UnfitError
from tests.service.toy import Toy

NAME = "native"
MODULE = "tests.service.runtime.engines.toy_engine"


@dataclass
class Fault:
    """What the next engines, and the open ones, do wrong.

    Attributes:
        shift: added to every logit.
        nan_item: catalogue row whose logit is NaN.
        error: raised by every call.
        refused: raised when an engine is opened.
        limits: of the engines.
        closed: number of engines closed so far.
    """

    shift: float = 0.0
    nan_item: int | None = None
    error: Exception | None = None
    refused: Exception | None = None
    limits: Limits = field(default_factory=Limits)
    closed: int = 0
    num_calls: int = 0


FAULT = Fault()


class ToyEngine:
    """Scores as the score graph of a `Toy` does."""

    name = NAME
    device = "cpu"
    memory = None

    def __init__(self, toy: Toy) -> None:
        self._item, self._context, self._placement = toy.item, toy.context, toy.placement
        self.limits = FAULT.limits

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        FAULT.num_calls += 1
        if FAULT.error is not None:
            raise FAULT.error
        longest = max(len(slate.items) for slate in slates)
        if len(slates) > (self.limits.slates or 9999) or longest > (self.limits.candidates or 9999):
            raise AssertionError("beyond the limits")
        return [self._score(slate) for slate in slates]

    def close(self) -> None:
        FAULT.closed += 1

    def _score(self, slate: EngineSlate) -> Logits:
        query = slate.state["interest"].sum(0) + self._item[slate.recent[-3:]].sum(0)
        bias = self._context[slate.context].sum() + slate.state["length"][0] / 10
        placed = self._placement[slate.fields].sum((1, 2))
        logits = self._item[slate.items] @ query + bias + placed + FAULT.shift
        if FAULT.nan_item is not None:
            logits[slate.items == FAULT.nan_item] = np.nan
        return np.asarray(logits, np.float32)


def open_engine(artifact: Artifact, num_threads: int) -> ToyEngine:
    if FAULT.refused is not None:
        raise FAULT.refused
    if artifact.manifest.model != "toy":
        raise UnfitError("shape", f"model: got {artifact.manifest.model!r}, expected 'toy'")
    fields = artifact.manifest.schema.candidate_fields
    names = tuple(one.name for one in fields)
    return ToyEngine(Toy(artifact.manifest.report["seed"], candidate_names=names))
