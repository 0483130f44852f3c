"""Settings read from the environment."""

import pytest

from service.settings import read_settings


def test_every_wrong_variable_is_named_without_repeating_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    wrong = {"PORT": "http", "MAX_CANDIDATES": "-1", "API_KEYS": "my-secret-key"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"ABSORB_{name}", value)
    with pytest.raises(SystemExit) as caught:
        read_settings()
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "ABSORB_API_KEYS: got another value, expected" in errors
    assert "my-secret-key" not in errors
    assert "ABSORB_PORT: got 'http', expected" in errors
    assert "ABSORB_MAX_CANDIDATES: got '-1', expected" in errors
