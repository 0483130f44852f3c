"""The build's page says what the report holds: metrics, calibration by decile, groups of one label, exceptions."""

import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from builder.evaluate.breakdowns import Group
from builder.evaluate.metrics.targets import Metrics
from builder.evaluate.report_page import page_lines, write_report_page


@pytest.fixture
def report() -> dict[str, Any]:
    test = Metrics(0.91, 0.9, 0.0123456, 1.02, 0.001, 4_000, 40, slate_gauc=0.88, slates=50)
    group = asdict(Group(None, 7, 7, 1.0))
    return {
        "test": asdict(test),
        "trained_graph": None,
        "uncalibrated": asdict(Metrics(0.91, 0.9, 0.02, 1.5, 0.01, 4_000, 40)),
        "floor": asdict(Metrics(0.8, 0.79, 0.03, 1.1, 0.002, 4_000, 40)),
        "trees_floor": None,
        "oracle_auc": 0.95,
        "by_history": {"0-99": asdict(Group(0.7, 90, 9, 0.1, 0.75))},
        "stored": {"fp32": {"bytes": 2_345, "largest_bytes": 12_345, "auc": 0.9, "log_loss": 0.02}},
        "cuts": {"age of the item": {"never": group}},
        "reliability": [
            {"from": 0.0, "to": 0.9, "targets": 3_600, "positives": 0.0, "predicted": 0.001, "observed": 0.0},
            {"from": 0.9, "to": 1.0, "targets": 400, "positives": 40.0, "predicted": 0.12, "observed": 0.1},
        ],
        "calibration": {
            "kind": "temperature",
            "kept": {"kind": "temperature", "scale": 0.8, "shift": 0.1},
            "held_out": {"none": 0.02, "temperature": 0.0125, "isotonic": 0.013},
            "gains": {
                "temperature": {"over": "none", "log_loss": 0.0075, "error": 0.001, "is_kept": True},
                "isotonic": {"over": "temperature", "log_loss": -0.0005, "error": None, "is_kept": False},
            },
            "targets": 9_999,
            "judged": 5_000,
            "is_later": True,
        },
        "head_fields": (("item", "department"), ("maker",)),
        "seconds": 1.0,
    }  # fmt: skip


def test_the_page_has_every_part(report: dict[str, Any]) -> None:
    lines = page_lines(
        report, "tiny, model lrea", ["Audit exception: the rule 'x' may tell labels. Y."]
    )

    text = "\n".join(lines)
    assert lines[0] == "# Report: tiny, model lrea"
    assert "**Audit exception: the rule 'x' may tell labels. Y.**" in text
    assert "4,000 targets in 50 slates, 40 of them positive (1.000%)" in text
    assert "|  | GAUC per slate | AUC | GAUC per user | log loss | PCOC | ECE |" in lines
    assert "| this model | 0.8800 | 0.9100 | 0.9000 | 0.01235 | 1.020 | 0.00100 |" in lines
    assert "| before calibration |  | 0.9100 | 0.9000 | 0.02000 | 1.500 | 0.01000 |" in lines
    assert "| oracle: the true probabilities |  | 0.9500 |  |  |  |  |" in lines
    assert (
        "Heads of attention start with a field each: item, department. "
        "Fields without a head of their own: maker."
    ) in lines
    assert "**temperature**" in text
    assert "Chosen by the log loss of 5,000 targets of the later half of validation" in text
    assert "| none | 0.020000 |  |  |  |" in lines
    assert "| temperature | 0.012500 | +0.007500 over none | 0.001000 | yes |" in lines
    assert "| isotonic | 0.013000 | -0.000500 over temperature |  | no |" in lines
    assert "| 90.0% to 100.0% | 400 | 40 | 12% | 10% | 1.200 |" in lines
    assert "| never | 7 | 7 | 100.000% |  |" in lines
    assert "| 0-99 | 90 | 9 | 10.000% | 0.7000 | 0.7500 |" in lines
    assert "| fp32 | 2,345 | 12,345 | 0.9000 | 0.02000 |" in lines
    for table in (part.splitlines() for part in text.split("\n\n") if part.startswith("|")):
        assert len({line.count("|") for line in table}) == 1


def test_a_report_without_calibration_says_so(report: dict[str, Any]) -> None:
    found = page_lines({**report, "calibration": None, "uncalibrated": None}, "t", [])

    assert "Nothing was fitted: scores are the model's own." in found


def test_a_named_calibration_has_no_gains(report: dict[str, Any]) -> None:
    named = report["calibration"] | {"gains": {}, "is_later": False}

    text = "\n".join(page_lines({**report, "calibration": named}, "t", []))

    assert "5,000 targets of users that were not fitted. The recipe names the method." in text
    assert "| isotonic | 0.013000 |  |  |  |" in text


def test_the_files_are_written(report: dict[str, Any], tmp_path: Path) -> None:
    page, picture = write_report_page(report, tmp_path, "t", [])

    assert page.read_text().startswith("# Report: t\n")
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width > 400
    assert height > 400
