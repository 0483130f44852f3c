"""The `[calibration]` section of a recipe: how logits become the log odds that the service answers with."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["auto", "none", "temperature", "isotonic"]


@dataclass(frozen=True)
class CalibrationRule:
    """How scores are calibrated. Calibration never changes the order of candidates."""

    method: Method = "auto"
    """temperature: a scale and a shift of the log odds. isotonic: a rising map of them. Both are fitted on validation.
    auto: the one with the lower log loss on other users in the later half of validation, fitted on the earlier half;
    none where neither is clearly better."""
