"""The demo against a real service process over a toy's generation."""

import io
import json
import re
import shlex

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from models.contract.example_slate import ExampleSlate
from service.tools.demo import LOG, app, learned, metrics
from tests.service.toy import Toy
from tests.service.world import World

NAMES = {"i1": "Bananas, 40 lb", "i2": "[red]Milk", "i3": "x" * 200}


def run(*options: str) -> Result:
    return CliRunner().invoke(app, options)


def test_it_prints_a_ranked_list_the_state_the_metrics_and_the_request(in_a_folder: World) -> None:
    toy = Toy()
    in_a_folder.publish(toy)

    result = run("--user", "ann", "--top-k", "3")

    out = result.stdout
    assert result.exit_code == 0
    request = json.loads(shlex.split(out[out.index("curl -s") :])[-1])
    assert request["user_id"] == "ann"
    assert set(request["candidates"]) >= {"i2", "i3"}  # ann's latest items
    state, recent = toy.state(["i1", "i2", "i3"]), ["i2", "i3"]
    scores = toy.scores(state, request["candidates"], recent)
    best = sorted(zip(scores, request["candidates"], strict=True), key=lambda pair: -pair[0])[:3]
    rows = re.findall(r"│\s+(\d)\s+│ (i\d+)\s+│\s+(0\.\d+)", out)
    assert rows == [(str(n), item, f"{p:.4f}") for n, (p, item) in enumerate(best, 1)]
    assert "State: hit" in out
    assert "interest 2×4, length 1" in out
    assert re.search(r"│ +│ +auc │", out.replace("┃", "│"))
    assert re.search(r"this model │ +0\.7500 │", out)
    assert "On later ones its AUC is 0.750." in out
    assert "Latest items of the user, newest first: i3; i2\n" in out


def test_it_shows_names_where_the_artifact_has_them(in_a_folder: World) -> None:
    """A name is plain text to the terminal; a long one is cut to the table, an item without one shows its id only."""
    in_a_folder.publish(Toy(texts=NAMES))

    out = run("--user", "ann", *(f"--candidate=i{i}" for i in range(1, 5))).stdout

    shown = {m[1]: m[2].strip() for m in re.finditer(r"│ (i\d) +│ ([^│]*)│ +0\.", out)}
    assert shown == {"i1": NAMES["i1"], "i2": NAMES["i2"], "i3": "x" * 37 + "…", "i4": ""}
    assert "newest first: " + "x" * 40 in out


def test_it_ranks_the_logs_latest_slate_with_its_fields(in_a_folder: World) -> None:
    items = [f"i{n}" for n in range(28)]
    display = [None if n % 3 == 0 else ("front", "aisle")[n % 2] for n in range(28)]
    slate = ExampleSlate(items, {"display": display})
    toy = Toy(candidate_names=("display",), texts=NAMES, slate=slate)
    in_a_folder.publish(toy)

    out = run("--user", "ann", "--top-k", "28").stdout

    scores = toy.scores(toy.state(["i1", "i2", "i3"]), items, ["i2", "i3"], placed=slate.fields)
    shown = re.findall(r"│ (i\d+) +│ [^│]*│ (\w*) *│ +(0\.\d+)", out)
    expected = {
        (item, place or "", f"{score:.4f}")
        for item, place, score in zip(items, display, scores, strict=True)
    }
    assert set(shown) == expected
    assert "best first: 28 of 28 candidates" in out
    request = json.loads(shlex.split(out[out.index("curl -s") :])[-1])
    assert request["candidates"][1] == {"id": "i1", "fields": {"display": "aisle"}}
    assert len(request["candidates"]) == 3


def test_it_calls_its_scores_scores_and_fits_on_a_screen(in_a_folder: World) -> None:
    in_a_folder.publish(Toy(texts=NAMES))

    out = run("--user", "ann").stdout

    assert "Click probabilities only if the log has exposures: docs/results/tasks.md." in out
    assert "probability" not in out
    assert len(out.splitlines()) <= 40
    assert max(map(len, out[: out.index("State:")].splitlines())) <= 120


def test_it_picks_a_user_of_the_cache(in_a_folder: World) -> None:
    in_a_folder.publish(Toy())

    assert "Candidates for user a/b c" in run().stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--model", "tye"], "did you mean 'toy'"), (["--user", "nobody"], "nobody")],
)
def test_what_cannot_be_shown_ends_with_a_reason(
    options: list[str], text: str, in_a_folder: World
) -> None:
    in_a_folder.publish(Toy())

    result = run(*options)

    assert result.exit_code == 1
    assert text in result.stderr


def test_an_empty_cache_is_reported_before_the_service_starts(in_a_folder: World) -> None:
    result = run()

    assert result.exit_code == 1
    assert "absorb build RECIPE" in result.stderr
    assert not LOG.exists()


def test_a_wrong_setting_is_named(in_a_folder: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSORB_MAX_CANDIDATES", "many")

    result = run()

    assert result.exit_code == 2
    assert "ABSORB_MAX_CANDIDATES: got 'many'" in result.stderr


def test_it_says_in_two_sentences_what_was_learned() -> None:
    report = {"test": {"auc": 0.8, "slate_gauc": 0.873}, "trees_floor": {"slate_gauc": 0.855}}

    text = learned(report)

    assert text.count(". ") + text.count(".\n") == 1
    assert "in 87.3% of the pairs (boosted trees on counts: 85.5%)." in text


def test_a_metric_that_a_part_lacks_is_left_blank() -> None:
    """Logs with small slates have no GAUC."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(
        metrics({"test": {"auc": 0.75, "gauc": 0.7}, "uncalibrated": {"auc": 0.74, "gauc": None}})
    )

    assert "0.7400" in console.export_text()
