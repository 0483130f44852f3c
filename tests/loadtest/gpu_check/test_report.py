import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadtest.gpu_check.__main__ import app
from loadtest.gpu_check.report import page, targets
from loadtest.gpu_check.results import FILE, Results, as_text, read_results
from tests.loadtest.command import run

ROOT = Path(__file__).parents[3]
MEASURED = ROOT / "docs" / "results" / "gpu"


@pytest.fixture
def content() -> dict[str, Any]:
    """A copy of the results in the repository."""
    return copy.deepcopy(read_results(MEASURED))


def test_the_page_in_the_repository_is_that_of_its_results(content: dict[str, Any]) -> None:
    assert (MEASURED / "table.md").read_text() == page(content["parts"], has_plot=True)


def test_results_in_the_repository_name_no_path(content: dict[str, Any]) -> None:
    assert re.findall(r"(?<![\w.])/\w+/\w+", json.dumps(content)) == []


def test_a_target_is_met_up_to_its_limit(content: dict[str, Any]) -> None:
    by_name = {name: (figure, limit) for name, figure, limit, _ in targets(content["parts"])}
    assert len(by_name) == 3
    figure, limit = by_name["fused engine, device p50 at B = 1,024"]
    assert figure <= limit == 60
    assert "| missed |" in page(content["parts"], has_plot=False)
    for row in content["parts"]["service"]["tables"]["closed loop over loopback HTTP, ms"]:
        row["p50"] = 1.0
    assert "| missed |" not in page(content["parts"], has_plot=False)


def test_parts_that_did_not_run_are_in_the_page() -> None:
    part = {"status": "not run: no CUDA device", "tables": {}, "notes": ["a | b"], "seconds": 0.1}
    text = page({"fused": part}, has_plot=False)
    assert "| fused | not run: no CUDA device | 0.1 |" in text
    assert "- fused: a / b" in text
    assert "## Targets" not in text


def test_the_command_writes_page_and_plot(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))

    assert run(app, "report", tmp_path, "--out", tmp_path / "page") == 0

    assert "fused graph" in (tmp_path / "page" / "table.md").read_text()
    assert (tmp_path / "page" / "device-times.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_results_is_wrong_usage(tmp_path: Path) -> None:
    assert run(app, "report", tmp_path) == 2


def test_a_part_that_never_ended_is_cut_short(tmp_path: Path) -> None:
    results = Results(tmp_path, "parity")
    results.add("µs", {"engine": "x", "p50": 1.23456789})
    part = read_results(tmp_path)["parts"]["parity"]
    assert part["status"] == "cut short"
    assert part["tables"]["µs"] == [{"engine": "x", "p50": 1.23457}]


def test_columns_are_aligned_and_missing_cells_are_dashes() -> None:
    assert as_text([{"a": 1, "b": 1234.5}, {"a": "long"}]) == "a     b\n1     1234\nlong  -"
