"""What is served on a day: whose weights, and states of when."""

from dataclasses import dataclass, replace
from typing import Literal

from builder.experiments.days.generations import Generation
from builder.experiments.days.nights import Night
from builder.experiments.days.states import States

Weights = Literal["kept", "warm", "full"]


@dataclass(frozen=True)
class Policy:
    """One way to serve.

    Attributes:
        name: in files.
        title: for people.
        weights: kept: of the first night; warm and full: of the last night.
        is_nightly: states are built anew every night; else they are those of the first night.
        states: of that night's cut, followed to the slate, or encoded at the slate's time.
        is_core: scored for every seed, not for the first alone.
        rebuild_days: days between builds for which the gap of folded states is measured; 0: no gap.
    """

    name: str
    title: str
    weights: Weights
    is_nightly: bool
    states: States
    is_core: bool = False
    rebuild_days: float = 1.0

    def generation(self, night: Night, first: Night, seed: int) -> Generation:
        """Whose weights serve on the day after `night`; on the first day all policies serve the same."""
        if self.weights == "kept" or night.number == 0:
            return Generation("full", first, seed)
        return Generation(self.weights, night, seed)

    def built(self, night: Night, first: Night) -> Night:
        """The night whose vocabulary the weights have."""
        return first if self.weights == "kept" else night

    def cut_s(self, night: Night, first: Night) -> int:
        """Epoch second up to which states know, or from which they are followed."""
        return (night if self.is_nightly else first).cut_s


KEPT = Policy("kept", "no retrain, states of the first night", "kept", False, "cut", is_core=True)
WARM = Policy("warm", "warm start", "warm", True, "cut", is_core=True)
FULL = Policy("full", "full retrain", "full", True, "cut", is_core=True)
FOLDED = replace(KEPT, name="kept-folded", title="no retrain, states folded", states="folded")
RARE = replace(
    FOLDED,
    name="kept-folded-rare",
    title="…, with the gap of a build in ten days",
    rebuild_days=10.0,
    is_core=False,
)
NEWEST = replace(
    RARE, name="kept-folded-newest", title="…, without a gap, as it was", rebuild_days=0.0
)
POLICIES = (
    FULL,
    WARM,
    FOLDED,
    NEWEST,
    RARE,
    KEPT,
    Policy("kept-nightly", "no retrain, states of each night", "kept", True, "cut"),
    Policy("kept-asked", "no retrain, states encoded at the request", "kept", False, "asked"),
    Policy("warm-folded", "warm start, states folded", "warm", True, "folded"),
    Policy("full-folded", "full retrain, states folded", "full", True, "folded"),
)
DRIFTS = (("warm", "kept-nightly"), ("warm", "full"), ("kept-folded", "kept"))
"""Pairs of policies whose scores of the same slates are compared: the second less the first."""
