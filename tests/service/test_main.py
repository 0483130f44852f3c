"""The command line of the service, and how a process starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import app
from service.settings import Settings, describe_settings
from tests.service.running import ROOT, service_process


def test_the_help_lists_every_setting_with_its_default_and_its_meaning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "400")
    assert app(["--help"], standalone_mode=False) == 0
    help_text = capsys.readouterr().out
    described = list(describe_settings())
    assert [variable for variable, _, _ in described] == [
        f"ABSORB_{name.upper()}" for name in Settings.model_fields
    ]
    for variable, default, meaning in described:
        assert f"\n{variable}, default: {default}\n    {meaning}" in help_text
    defaults = {variable: default for variable, default, _ in described}
    assert defaults["ABSORB_PORT"] == "8000"
    assert defaults["ABSORB_WARM_UP_SLATES"] == "[200]"
    assert defaults["ABSORB_API_KEYS"] == defaults["ABSORB_GRPC_PORT"] == "unset"


def test_a_wrong_argument_ends_with_status_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        app(["--nope"])
    assert caught.value.code == 2
    assert "--nope" in capsys.readouterr().err


def test_an_embedded_cache_that_cannot_start_is_reported(tmp_path: Path):
    log = tmp_path / "log"
    with service_process(log, cache_url="embedded:/tmp/" + "x" * 120) as process:
        assert process.wait(60) == 1
    assert "too long for a unix socket" in log.read_text()


def test_the_service_imports_no_torch():
    code = "import sys, service.__main__; print('torch' in sys.modules, 'polars' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
