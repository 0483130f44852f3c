"""The calibration of an artifact: how the service turns the score graph's logits into calibrated log odds.

`calibration.json` is one of

    {"kind": "temperature", "scale": 0.9, "shift": -0.1}
    {"kind": "isotonic", "logits": [-6.2, -3.0, 0.5], "log_odds": [-6.5, -3.1, 0.1]}

Temperature: log odds = scale · logit + shift, with scale > 0. Isotonic: log odds are interpolated linearly between the
points, both of whose lists rise strictly; beyond the first and the last point they go on at slope 1. Both keep the
order of candidates. An artifact without the file has no calibration: log odds = logit.
"""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.strict_json import read_json

CALIBRATION = "calibration.json"
NONE = "none"
"""Name of no calibration, in answers."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Temperature:
    """log odds = scale · logit + shift.

    Attributes:
        scale: above 0.
        shift: of the log odds.
    """

    scale: float
    shift: float
    kind: str = "temperature"

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale > 0 and isfinite(self.shift)):
            raise ValueError(
                f"calibration: got scale {self.scale} and shift {self.shift}, expected finite numbers, scale above 0"
            )

    def log_odds(self, logits: Floats) -> Floats:
        """Calibrated log odds, in place."""
        logits *= self.scale
        logits += self.shift
        return logits


@dataclass(frozen=True)
class Isotonic:
    """Log odds that are interpolated between points.

    Attributes:
        logits: of the points, rising strictly.
        log_odds_at: calibrated log odds there, rising strictly.
    """

    logits: tuple[float, ...]
    log_odds_at: tuple[float, ...]
    kind: str = "isotonic"

    def __post_init__(self) -> None:
        for name, values in (("logits", self.logits), ("log_odds", self.log_odds_at)):
            if not values or not all(isfinite(value) for value in values):
                raise ValueError(f"calibration, {name}: got {values}, expected finite numbers")
            if not all(low < high for low, high in pairwise(values)):
                raise ValueError(f"calibration, {name}: got {values}, expected a strict rise")
        if len(self.logits) != len(self.log_odds_at):
            raise ValueError(
                f"calibration: got {len(self.logits)} logits and {len(self.log_odds_at)} log odds, expected as many"
            )

    def log_odds(self, logits: Floats) -> Floats:
        """Calibrated log odds."""
        beyond = np.minimum(logits - self.logits[0], 0) + np.maximum(logits - self.logits[-1], 0)
        return np.asarray(np.interp(logits, self.logits, self.log_odds_at) + beyond)


Calibration = Temperature | Isotonic


def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """Content of the file in JSON types."""
    fields = asdict(calibration)
    if isinstance(calibration, Isotonic):
        fields["log_odds"] = fields.pop("log_odds_at")
    return fields


def calibration_to_bytes(calibration: Calibration) -> bytes:
    """Content of the file."""
    return json.dumps(calibration_to_dict(calibration), sort_keys=True).encode()


def calibration_from_bytes(raw: bytes) -> Calibration:
    """Inverse of `calibration_to_bytes`.

    Raises:
        ValueError: the bytes are not a calibration.
    """
    return calibration_of(read_json(raw))


def calibration_of(fields: Any) -> Calibration:
    """Inverse of `calibration_to_dict`.

    Raises:
        ValueError: it is not a calibration.
    """
    try:
        if fields["kind"] == "temperature":
            return Temperature(float(fields["scale"]), float(fields["shift"]))
        if fields["kind"] == "isotonic":
            logits, log_odds = (tuple(map(float, fields[name])) for name in ("logits", "log_odds"))
            return Isotonic(logits, log_odds)
    except (KeyError, TypeError) as error:
        raise ValueError(f"calibration: got {fields}, expected its fields: {error!r}") from error
    raise ValueError(
        f"calibration, kind: got {fields['kind']!r}, expected 'temperature' or 'isotonic'"
    )
