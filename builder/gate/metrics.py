"""Log loss, GAUC and PCOC of both models, and their paired differences with 95% intervals over users."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from builder.evaluate.intervals import draw_users
from builder.gate.scored import Scored, user_sums

Floats = NDArray[np.float64]
ENDS = (2.5, 97.5)
"""Percentiles of the draws that bound a 95% interval."""


@dataclass(frozen=True)
class Quality:
    """Metrics of one model on the compared targets.

    Attributes:
        log_loss: mean over targets, nats.
        gauc: mean AUC of slates (logs with pools) or of users; None if none of them has both labels.
        pcoc: predicted over observed clicks.
    """

    log_loss: float
    gauc: float | None
    pcoc: float


@dataclass(frozen=True)
class Difference:
    """How much worse the new model is than the serving one: below 0 it is better.

    Attributes:
        value: over all targets.
        low: lower end of the 95% interval over users, paired.
        high: its upper end.
    """

    value: float
    low: float
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the new model is better by more than the interval."""
        return self.high < 0

    @property
    def is_worse(self) -> bool:
        """Whether the new model is worse by more than the interval."""
        return self.low > 0


@dataclass(frozen=True)
class Measured:
    """Both models on the same targets.

    Attributes:
        targets: number of targets.
        clicks: number of positives.
        users: number of users.
        slates: number of slates.
        first_s: epoch second of the oldest slate.
        last_s: epoch second of the newest slate.
        constant_loss: log loss of a model that predicts the share of clicks for every target, nats.
        new: the new model.
        old: the serving model; None without one.
        log_loss: rise of the log loss as a share of the serving model's; None without one.
        gauc: fall of the GAUC; None without a serving model, or where there is no GAUC.
        calibration: rise of |ln PCOC|; None without a serving model.
    """

    targets: int
    clicks: int
    users: int
    slates: int
    first_s: int
    last_s: int
    constant_loss: float
    new: Quality
    old: Quality | None = None
    log_loss: Difference | None = None
    gauc: Difference | None = None
    calibration: Difference | None = None


def measure_both(scored: Scored) -> Measured:
    """Measure finite scores of one model (the new one), or of two (the serving one first).

    Args:
        scored: targets with both labels.
    """
    sums = user_sums(scored)
    models = len(scored.log_odds)
    total = sums.columns().sum(0)
    draws = np.concatenate([total[None], draw_users(sums.columns())])  # row 0: all users once
    targets, clicks, weight = draws[:, 0], draws[:, 1], draws[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        loss, auc, pcoc = (
            draws[:, 3 + models * place : 3 + models * (place + 1)] / divisor[:, None]
            for place, divisor in enumerate((targets, weight, clicks))
        )
        distance = np.abs(np.log(pcoc))
    qualities = [
        Quality(float(loss[0, m]), _finite(auc[0, m]), float(pcoc[0, m])) for m in range(models)
    ]
    rate = clicks[0] / targets[0]
    measured = Measured(
        len(scored.label),
        int(clicks[0]),
        len(sums.targets),
        scored.slates,
        *scored.ts_s,
        float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate)),
        qualities[-1],
    )
    if models == 1:
        return measured
    return replace(
        measured,
        old=qualities[0],
        log_loss=_difference((loss[:, 1] - loss[:, 0]) / loss[:, 0]),
        gauc=_difference(auc[:, 0] - auc[:, 1]),
        calibration=_difference(distance[:, 1] - distance[:, 0]),
    )


def _difference(draws: Floats) -> Difference | None:
    """Row 0 is the value, the others are draws; draws without a click or a GAUC are left out."""
    known = draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(draws[0]) or not len(known):
        return None
    low, high = np.percentile(known, ENDS)
    return Difference(float(draws[0]), float(low), float(high))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
