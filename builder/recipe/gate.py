"""The `[gate]` section of a recipe: how much worse than the serving model a new one may be, to be published."""

from dataclasses import dataclass
from typing import Annotated

from builder.recipe.limits import Interval


@dataclass(frozen=True)
class GateRule:
    """The promotion gate between `precompute` and `publish`. Not part of what is built.

    The new artifact and the one that serves now score the same targets of the test period. Margins bound the measured
    difference; docs/decisions/2026-11-28-margins-of-the-gate.md says how they were chosen.
    """

    on: bool = True
    """Whether a model must pass before it is published. false: every build is published."""
    slates: Annotated[int, Interval(ge=1)] = 1024
    """Largest number of slates of the test period that are compared, a fixed random sample."""
    log_loss: Annotated[float, Interval(ge=0)] = 0.02
    """Margin of the log loss: the new one may be higher by this share of the serving model's."""
    gauc: Annotated[float, Interval(ge=0, le=1)] = 0.01
    """Margin of the GAUC (per slate in logs with pools, per user elsewhere): the new one may be lower by this much."""
    calibration: Annotated[float, Interval(ge=0)] = 0.1
    """Margin of |ln PCOC|, the distance of predicted over observed clicks from 1: 0.1 is a tenth of all clicks."""
    requests: Annotated[int, Interval(ge=0)] = 1000
    """Number of requests that both models rank. 0: ranks are not compared."""
    captured: str | None = None
    """File of captured requests (JSON lines, as the service writes them to ABSORB_SLOW_DIR), beside the recipe or in
    the current folder, whose rankings are compared. Unset: the newest of the compared slates."""
    rank_distance: Annotated[float, Interval(ge=0, le=1)] = 0.25
    """Largest mean distance of both models' rankings (0 the same, about 0.67 random) unless the new model is better
    by more than the interval."""
    gauc_gain: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Rise of the GAUC above which a model is not believed: such a jump is a leak until a person says otherwise."""
    log_loss_gain: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Fall of the log loss, as a share of the serving model's, above which a model is not believed."""
    gauc_drop: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """The new GAUC may be at most this much below what the serving model's own report states: a larger fall on which
    both models agree is a damaged log."""
