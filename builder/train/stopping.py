"""When a training ends: at the first of patience, steps and time."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from builder.train.learning_rate import DROP

Ended = Literal["patience", "max_steps", "time"]


@dataclass
class Stopping:
    """Compares validations, by GAUC per slate where it exists, else by AUC; equals by log loss.

    Attributes:
        patience: validations without a better one after which a training ends; 0: never.
        drops: times that the rate is lowered before that.
        bad: validations since the best one, or since the rate was lowered.
        dropped: times that the rate was lowered.
        curve: all validations.
        best: place of the best one in `curve`.
    """

    patience: int
    drops: int = 0
    bad: int = 0
    dropped: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: int = -1

    def add(self, line: dict[str, Any]) -> bool:
        """Take in a validation; return whether it is the best so far."""
        self.curve.append(line)
        is_best = self.best < 0 or goodness(line) > goodness(self.curve[self.best])
        if is_best:
            self.best, self.bad = len(self.curve) - 1, 0
            return True
        self.bad += 1
        if self.is_out_of_patience and self.dropped < self.drops:
            self.dropped, self.bad = self.dropped + 1, 0
        return False

    @property
    def is_out_of_patience(self) -> bool:
        """Whether as many validations as `patience` were not better."""
        return 0 < self.patience <= self.bad

    @property
    def share_of_rate(self) -> float:
        """What the drops so far leave of the learning rate."""
        return DROP**self.dropped

    def to_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"bad": self.bad, "dropped": self.dropped, "curve": self.curve, "best": self.best}


def goodness(line: dict[str, Any]) -> tuple[float, float]:
    """Larger is better. A diverged model gives NaN, which is worse than everything."""
    gauc = line.get("gauc")
    main = line["auc"] if gauc is None else gauc
    values = (main, -line["log_loss"])
    return tuple(-math.inf if math.isnan(value) else value for value in values)  # type: ignore[return-value]
