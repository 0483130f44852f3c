"""`absorb audit`: a table and an exit code, what a restricted run leaves alone, and JSON for programs."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from builder.cli.steps import do_step
from builder.pipeline import Build
from builder.recipe.audit import Allowed, AuditRule
from builder.run_folder import RunFolder
from tests.builder.audit.planted import bought_log, shown_log
from tests.builder.cli.conftest import Call
from tests.builds import RECIPE

LEAKING = """
name = "leaking"
serve_as = "leaking"

[data]
source = "files"
events = "events.csv"
context_fields = []
min_item_count = 1

[split]
train_from = 0.2
validate_from = 0.6
test_from = 0.8

[history]
length = 40
recent = 4

[negatives]
exclude = "ever"

[model]
name = "lrea"
"""
ALLOW = '\n[[audit.allow]]\nrule = "item in history"\nreason = "The paper\'s protocol, kept to compare."\n'


def write(folder: Path, text: str, log: pl.DataFrame) -> Path:
    log.write_csv(folder / "events.csv")
    (folder / "leaking.toml").write_text(text)
    return folder / "leaking.toml"


def test_a_clean_log_passes_and_is_stamped(call: Call, tmp_path: Path) -> None:
    finished = call("audit", RECIPE, "--runs", tmp_path, "--rows", 3)

    assert finished.code == 0, finished.err
    assert "no rule gives labels away" in finished.out
    assert "Positive among all targets: train" in finished.out
    assert "more groups are in audit.md" in " ".join(finished.out.split())
    assert list(RunFolder(tmp_path / "tiny").stamps()) == ["ingest", "audit"]
    assert "| test | item in history: yes | " in (tmp_path / "tiny" / "audit.md").read_text()


def test_a_leak_is_an_exit_code_and_an_error_that_teaches(call: Call, tmp_path: Path) -> None:
    finished = call("audit", write(tmp_path, LEAKING, bought_log()), "--runs", tmp_path)

    assert finished.code == 1
    assert finished.err.startswith("error: audit: 1 rule of leaking gives labels away")
    for words in (
        "item in history: yes (test): ",
        "targets are positive (100.0 %",
        "likely cause: negatives leave out every item that the user takes",
        'remedy: set negatives.exclude = "slate"',
        '[[audit.allow]] rule = "item in history"',
    ):
        assert words in finished.err, words
    assert "fails" in finished.out
    assert list(RunFolder(tmp_path / "leaking").stamps()) == ["ingest"]


def test_a_reason_lets_it_pass_and_is_shown(call: Call, tmp_path: Path) -> None:
    recipe = write(tmp_path, LEAKING + ALLOW, bought_log())

    finished = call("audit", recipe, "--runs", tmp_path)

    assert finished.code == 0, finished.err
    assert "1 allowed to tell labels" in finished.out
    assert "Allowed: item in history: yes (test). The paper's protocol" in (
        tmp_path / "leaking" / "audit.md"
    ).read_text().replace("\n", " ")


def test_an_exception_stands_beside_the_metrics(build: Build, capsys) -> None:
    allowed = AuditRule((Allowed("item in history", "Only to see it printed."),))
    other = replace(build, recipe=replace(build.recipe, audit=allowed))

    do_step(other, "audit")
    do_step(other, "evaluate")

    out = capsys.readouterr().out
    warning = "Audit exception: the rule 'item in history' may tell labels. Only to see it printed."
    assert out.index("test AUC") < out.index(warning)


def test_a_rule_that_does_not_exist_allows_nothing(call: Call, tmp_path: Path) -> None:
    recipe = write(tmp_path, LEAKING + ALLOW.replace("in history", "in histroy"), bought_log())

    finished = call("audit", recipe, "--runs", tmp_path)

    assert finished.code == 1
    assert "audit.allow[0].rule: got 'item in histroy', expected one of: " in finished.err
    assert "did you mean 'item in history'?" in finished.err


def test_a_part_of_it_is_printed_and_not_kept(call: Call, tmp_path: Path) -> None:
    finished = call("audit", RECIPE, "--runs", tmp_path, "--part", "test", "--slates", 40, "--json")

    found = json.loads(finished.out)
    assert finished.code == 0, finished.err
    assert found["slates"] == {"test": 40}
    assert {finding["part"] for finding in found["findings"]} == {"test"}
    assert list(RunFolder(tmp_path / "tiny").stamps()) == ["ingest"]
    assert not (tmp_path / "tiny" / "audit.md").exists()


def test_a_part_that_does_not_exist_is_refused(call: Call, tmp_path: Path) -> None:
    finished = call("audit", RECIPE, "--runs", tmp_path, "--part", "tset")

    assert finished.code == 2
    assert "did you mean 'test'?" in " ".join(finished.err.replace("│", " ").split())


@pytest.mark.parametrize("columns", ["80", "160"])
def test_the_table_fits_the_terminal(call: Call, tmp_path: Path, monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = LEAKING.replace("context_fields = []", 'context_fields = ["device"]')
    recipe = write(tmp_path, text.replace('exclude = "ever"', ""), shown_log().drop("clicked"))

    finished = call("audit", recipe, "--runs", tmp_path)

    assert "context device: d1" in finished.out or "item in history" in finished.out
    assert "…" not in finished.out
