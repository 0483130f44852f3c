"""Two checkouts, here the same one twice, take turns on the real log."""

from pathlib import Path

import pytest

from loadtest import before_and_now
from loadtest.machine import ROOT


def test_both_checkouts_take_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = "the default of each"
    monkeypatch.setattr(before_and_now, "MODELS", {label: before_and_now.MODELS[label]})
    monkeypatch.setattr(before_and_now, "WARM_UP", 0)
    monkeypatch.setattr(before_and_now, "STEPS", 2)

    before_and_now.main(ROOT, ROOT, tmp_path / "new" / "table.md")

    *_, row = (tmp_path / "new" / "table.md").read_text().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == label
    before, now, times = (float(cell) for cell in cells[3:])
    assert before > 0 < now
    assert times == pytest.approx(now / before, rel=0.05)
