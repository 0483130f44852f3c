"""The experiments' commands reject wrong arguments before anything is built."""

import re
from pathlib import Path

import pytest

from tests.builder.cli.conftest import Call
from tests.builds import RECIPE


@pytest.mark.parametrize("command", ["compare", "scaling"])
def test_without_variants_it_says_what_is_missing(call: Call, tmp_path: Path, command: str) -> None:
    finished = call(command, RECIPE, "--folder", tmp_path, "--runs", tmp_path)

    assert finished.code == 1
    assert "variant: missing, `compare` needs [[variant]] tables" in finished.err


def test_bench_does_one_thing_at_a_time(call: Call) -> None:
    finished = call("bench", "--suan", "--training")

    assert finished.code == 2
    assert "expected one of them" in finished.err


def test_compare_only_names_the_variants_there_are(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    variants = [
        f'[[variant]]\nlabel = "{label}"\nfamily = "full"\nmodel = {{ name = "din" }}\n'
        for label in ("DIN", "other")
    ]
    recipe.write_text(RECIPE.read_text() + "".join(variants))

    finished = call("compare", recipe, "--only", "DNI", "--runs", tmp_path / "runs")

    assert finished.code == 2
    words = re.sub(r"[\s│]+", " ", finished.err)
    assert "value for --only: got 'DNI', expected one of: DIN, other; did you mean 'DIN'?" in words
    assert not (tmp_path / "runs").exists()
