"""The command line of the service."""

import pytest

from service.__main__ import app
from service.settings import Settings, describe_settings


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
