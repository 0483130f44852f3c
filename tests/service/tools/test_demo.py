"""The demo against a real service process over a toy's generation."""

import json
import re
import shlex
from pathlib import Path

import pytest

from service.tools.demo import main
from tests.service.toy import Toy
from tests.service.world import World


@pytest.fixture
def in_a_folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The folder and the environment in which a user would start the demo."""
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    monkeypatch.setenv("ABSORB_CACHE_TIMEOUT_MS", "2000")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return world


def test_it_prints_a_ranked_list_the_state_the_metrics_and_the_request(
    in_a_folder: World, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy()
    in_a_folder.publish(toy)

    assert main(["--user", "ann", "--top-k", "3"]) == 0

    out = capsys.readouterr().out
    request = json.loads(shlex.split(out[out.index("curl -s") :])[-1])
    assert request["user_id"] == "ann"
    assert set(request["candidates"]) >= {"i2", "i3"}  # what ann had lately
    state, recent = toy.state(["i1", "i2", "i3"]), ["i2", "i3"]
    scores = toy.scores(state, request["candidates"], recent)
    best = sorted(zip(scores, request["candidates"], strict=True), key=lambda pair: -pair[0])[:3]
    rows = re.findall(r"│\s+(\d)\s+│ (i\d+)\s+│\s+(0\.\d+)", out)
    assert rows == [(str(n), item, f"{p:.4f}") for n, (p, item) in enumerate(best, 1)]
    assert "State: hit" in out
    assert "interest 2×4, length 1" in out
    assert re.search(r"auc\s+│\s+0\.7500", out)
    assert re.search(r"targets\s+│\s+1,200", out)


def test_it_picks_a_user_of_the_cache(
    in_a_folder: World, capsys: pytest.CaptureFixture[str]
) -> None:
    in_a_folder.publish(Toy())

    assert main([]) == 0

    assert "Candidates for user a/b c" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--model", "tye"], "did you mean 'toy'"), (["--user", "nobody"], "nobody")],
)
def test_what_cannot_be_shown_ends_with_a_reason(
    options: list[str], text: str, in_a_folder: World, capsys: pytest.CaptureFixture[str]
) -> None:
    in_a_folder.publish(Toy())

    assert main(options) == 1

    assert text in capsys.readouterr().err


def test_an_empty_cache_is_said_at_once(
    in_a_folder: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 1

    assert "python -m builder run" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_named(
    in_a_folder: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABSORB_MAX_CANDIDATES", "many")

    with pytest.raises(SystemExit, match="2"):
        main([])

    assert "ABSORB_MAX_CANDIDATES: got 'many'" in capsys.readouterr().err
