"""The builder's command line, called in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli.main import main


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Call = Callable[..., Finished]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `python -m builder` with these arguments."""

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return Finished(int(left.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def places(tmp_path: Path) -> list[object]:
    """Options that keep a build out of the working folder."""
    return ["--runs", tmp_path / "runs", "--artifacts", tmp_path / "artifacts"]
