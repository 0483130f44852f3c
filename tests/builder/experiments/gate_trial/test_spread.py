"""What the margins see: no refusal of models that are alike, and the refusal of a loss beyond the margin."""

import json
from pathlib import Path

import numpy as np
import pytest

from builder.experiments.gate_trial.spread import read_trainings, spread
from builder.recipe.gate import GateRule

SLATES = 400
RULE = GateRule(slates=100)


def write(folder: Path, label: str, seed: int, loss: float = 0.0, pcoc: float = 1.0) -> None:
    rng = np.random.default_rng(seed)
    gauc = 0.8 + rng.normal(0, 0.01, SLATES) - loss
    gauc[::2] = np.nan
    targets = np.full(SLATES, 10)
    np.savez(
        folder / f"{label}-seed{seed}-0.npz",
        gauc=gauc,
        log_loss=np.full(SLATES, 0.1 * (1 + 2 * loss)),
        targets=targets,
    )
    about = {"label": label, "seed": seed, "test": {"pcoc": pcoc}}
    (folder / f"{label}-seed{seed}-0.json").write_text(json.dumps(about))


def test_a_known_loss_is_measured_and_refused(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, "good", seed)
        write(tmp_path, "bad", seed, loss=0.03)
        write(tmp_path, "off", seed, pcoc=1.3)
    write(tmp_path, "good, trial of 0.1", 10)
    write(tmp_path, "rare", 0)
    trainings = read_trainings(tmp_path)
    assert set(trainings) == {"good", "bad", "off"}

    good, off, bad = sorted(spread(trainings, "good", RULE), key=lambda row: row.refused + row.gauc)

    assert (good.label, good.pairs, good.refused) == ("good", 6, 0)
    assert good.gauc == pytest.approx(0, abs=1e-12)
    assert 0 < good.gauc_sd < 0.01
    assert bad.gauc == pytest.approx(0.03, abs=0.001)
    assert bad.log_loss == pytest.approx(0.06)
    assert (bad.by_gauc, bad.by_log_loss, bad.by_calibration) == (1, 1, 0)
    assert (off.by_gauc, off.by_log_loss, off.by_calibration) == (0, 0, 1)
    assert off.calibration == pytest.approx(np.log(1.3))
