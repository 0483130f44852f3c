"""How much seeds differ, and what loss the margins refuse: from the finished trainings of a comparison.

A training's JSON and the metrics of its slates (`absorb compare`) are read. Every ordered pair of seeds is an old and a
new model, measured on many random samples of as many slates as the gate compares. Another variant's trainings take the
place of new models that are worse by a known amount.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.recipe.gate import GateRule

SAMPLES = 200
LEAST_SEEDS = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A finished training.

    Attributes:
        seed: its seed.
        pcoc: over all slates.
        gauc: AUC of each slate, NaN without both labels; [S].
        loss: sum of the log loss over each slate's targets, [S].
    """

    seed: int
    pcoc: float
    gauc: Floats
    loss: Floats


@dataclass(frozen=True)
class Row:
    """A variant in the place of the new model.

    Attributes:
        label: of the variant.
        pairs: old and new models of different seeds.
        gauc: mean fall of the GAUC over all slates.
        log_loss: mean rise of the log loss, as a share of the old one's.
        calibration: mean rise of |ln PCOC|.
        gauc_sd: standard deviation of the fall over pairs and samples.
        log_loss_sd: the same of the rise of the log loss.
        calibration_sd: of |ln PCOC|, over pairs alone.
        by_gauc: share of pairs and samples that the margin of the GAUC refuses.
        by_log_loss: the same of the log loss.
        by_calibration: share of pairs that the margin of the calibration refuses.
        refused: share that one of the three refuses.
    """

    label: str
    pairs: int
    gauc: float
    log_loss: float
    calibration: float
    gauc_sd: float
    log_loss_sd: float
    calibration_sd: float
    by_gauc: float
    by_log_loss: float
    by_calibration: float
    refused: float


def read_trainings(folder: Path) -> dict[str, list[Measured]]:
    """Variant -> its trainings with metrics by slate; trials of a search are left out."""
    found: dict[str, list[Measured]] = {}
    for path in sorted(folder.glob("*-seed*.json")):
        vectors = path.with_suffix(".npz")
        if not vectors.is_file():
            continue
        about: dict[str, Any] = json.loads(path.read_text())
        if "trial of" in about["label"]:
            continue
        own = np.load(vectors)
        loss = own["log_loss"].astype(np.float64) * own["targets"]
        gauc = own["gauc"].astype(np.float64)
        one = Measured(about["seed"], about["test"]["pcoc"], gauc, loss)
        found.setdefault(about["label"], []).append(one)
    return {label: ones for label, ones in found.items() if len(ones) >= LEAST_SEEDS}


def spread(
    trainings: Mapping[str, Sequence[Measured]], label: str, rule: GateRule, seed: int = 0
) -> list[Row]:
    """A row of every variant, in the place of the new model, against one that serves.

    Args:
        trainings: of `read_trainings`, all on the same slates.
        label: of the variant that serves; its own row is that of good retrains.
        rule: the margins, and the number of slates.
        seed: of the samples.
    """
    slates = len(trainings[label][0].loss)
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.permutation(slates)[: rule.slates] for _ in range(SAMPLES)])
    rows = [_row(name, trainings[label], new, rule, chosen) for name, new in trainings.items()]
    return sorted(rows, key=lambda row: row.gauc)


def _row(
    name: str,
    old: Sequence[Measured],
    new: Sequence[Measured],
    rule: GateRule,
    chosen: NDArray[np.int64],
) -> Row:
    pairs = [(a, b) for a, b in product(old, new) if a.seed != b.seed]
    fall = np.stack([_gauc(a, chosen) - _gauc(b, chosen) for a, b in pairs])
    rise = np.stack([_loss(b, chosen) / _loss(a, chosen) - 1 for a, b in pairs])
    pcoc = np.array([abs(np.log(b.pcoc)) - abs(np.log(a.pcoc)) for a, b in pairs])
    by = (fall > rule.gauc, rise > rule.log_loss, (pcoc > rule.calibration)[:, None])
    everything = np.arange(chosen.max() + 1)[None]
    return Row(
        name,
        len(pairs),
        float(np.mean([_gauc(a, everything) - _gauc(b, everything) for a, b in pairs])),
        float(np.mean([_loss(b, everything) / _loss(a, everything) - 1 for a, b in pairs])),
        float(pcoc.mean()),
        float(fall.std()),
        float(rise.std()),
        float(pcoc.std()),
        float(np.mean(by[0])),
        float(np.mean(by[1])),
        float(np.mean(by[2])),
        float(np.mean(by[0] | by[1] | by[2])),
    )


def _gauc(one: Measured, chosen: NDArray[np.int64]) -> Floats:
    return np.asarray(np.nanmean(one.gauc[chosen], axis=1))


def _loss(one: Measured, chosen: NDArray[np.int64]) -> Floats:
    return np.asarray(one.loss[chosen].sum(1))


def table(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Cells of each row: losses ± their standard deviation, and the shares refused."""
    for row in rows:
        yield [
            row.label,
            str(row.pairs),
            f"{row.gauc:+.4f} ± {row.gauc_sd:.4f}",
            f"{row.log_loss:+.2%} ± {row.log_loss_sd:.2%}",
            f"{row.calibration:+.3f} ± {row.calibration_sd:.3f}",
            *(f"{x:.1%}" for x in (row.by_gauc, row.by_log_loss, row.by_calibration, row.refused)),
        ]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """In JSON types."""
    return [asdict(row) for row in rows]
