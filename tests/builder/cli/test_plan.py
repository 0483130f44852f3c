"""`absorb plan`: the same numbers as a table and as JSON, for a model, an artifact and plain numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from builder.cli.main import app
from builder.cli.options import make_build
from builder.cli.plan_table import explanation
from builder.cli.progress_bar import console
from builder.evaluate.record_sizes import measure_record_sizes
from builder.publish.capacity import GIB, computed_history, load_of_spec, make_plan
from builder.publish.live_capacity import Live
from models.contract.record import USER_ID_BYTES
from models.contract.state_spec import TensorSpec
from models.registry import build_model


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the console so wide that no cell wraps, whatever COLUMNS was when it was created."""
    monkeypatch.setattr(console, "_width", 160)


def run_plan(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_numbers_give_a_table_with_every_dtype():
    shown = run_plan("numbers", "--users", 1000000, "--rank", 16, "--dim", 32, "--shards", 3)
    assert "lrea: 1,000,000 users, 3 shard(s)" in shown
    live = ("base histories", "live logs", "streams", "dead letters")
    for word in ("fp32", "fp16", "int8", "one generation", "roll back to", "being written", *live):
        assert word in shown


def test_the_answer_to_a_program_has_the_same_numbers():
    plan = json.loads(run_plan("numbers", "--users", 1000, "--rank", 4, "--dim", 8, "--json"))
    spec = (TensorSpec("a", (4, 8)), TensorSpec("b", (4, 8)))
    expected = make_plan(load_of_spec("lrea", 1000, spec, 32, 16), 0, 1)
    assert [need["user_bytes"] for need in plan["needs"]] == [need.user_bytes for need in expected]
    assert plan["measured"] == 0


def test_what_live_events_take_follows_from_their_number():
    numbers = ("numbers", "--users", 1000, "--bytes", 100, "--json")
    plan = json.loads(run_plan(*numbers, "--live-events", 50, "--history", 100))
    none = json.loads(run_plan(*numbers, "--live-events", 0, "--history", 0))
    parts, without = (each["needs"][0]["parts"]["blue_green"] for each in (plan, none))
    assert parts["base histories"] * GIB == 2 * 1000 * computed_history("model", 16, 0, 100)
    assert parts["live logs"] * GIB == pytest.approx(1000 * Live(events=50.0).log_bytes)
    assert (without["base histories"], without["live logs"]) == (0, 0)
    assert parts["streams"] == without["streams"] > 0.1
    assert "do not follow events" in run_plan(*numbers[:-1], "--history", 0)


def test_an_artifact_and_a_published_model_say_the_same(finished):
    artifact = finished.artifact()
    users = finished.events().num_users
    options = ["--artifacts", finished.artifacts, "--json"]
    by_artifact = json.loads(run_plan("artifact", artifact.artifact_id, "--users", users, *options))
    by_model = json.loads(
        run_plan("model", finished.recipe.serve_as, "--cache", finished.cache_url, *options)
    )
    assert by_model["users"] == by_artifact["users"] == users
    assert by_model["measured"] == users
    assert 0 < by_model["live"]["history_bytes"] <= by_artifact["live"]["history_bytes"]
    assert by_model["record_bytes"]["fp32"] == pytest.approx(
        by_artifact["record_bytes"]["fp32"], abs=16
    )


def test_a_recipe_counts_the_mean_record_of_its_logs_users(tmp_path: Path):
    recipe, runs = Path("builder/recipes/tiny.toml"), tmp_path / "runs"
    ingested = CliRunner().invoke(app, ["ingest", str(recipe), "--runs", str(runs)])
    assert ingested.exit_code == 0, ingested.output
    build = make_build(recipe, runs)
    events, choice = build.events(), build.recipe.model
    item_fields = torch.from_numpy(np.array(events.item_fields)).long()
    model = build_model(choice.name, events.schema, item_fields, choice.config).eval()
    sizes = measure_record_sizes(model, events)

    plan = json.loads(run_plan("recipe", recipe, "--runs", runs, "--json"))

    id_bytes = round(np.mean([len(user.encode()) for user in events.user_ids]))
    assert (plan["users"], plan["is_largest"]) == (events.num_users, False)
    for dtype, size in sizes.mean.items():
        assert plan["record_bytes"][dtype] == size + id_bytes - USER_ID_BYTES


def test_largest_sizes_are_said_to_be_largest():
    sparse = (TensorSpec("a", (4, 8), filled="first"),)
    words = "Records are counted at their largest"
    assert words in explanation(load_of_spec("lrea", 9, sparse, 32, 16))
    assert words not in explanation(load_of_spec("lrea", 9, (TensorSpec("a", (4, 8)),), 32, 16))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["numbers", "--users", "9"], "expected --bytes, or both"),
        (["numbers", "--users", "9", "--rank", "4"], "expected --bytes, or both"),
        (["numbers", "--bytes", "9"], "--users"),
        (["numbers", "--users", "0", "--bytes", "9"], "--users"),
    ],
)
def test_incomplete_sizes_are_rejected(arguments: list[str], words: str):
    result = CliRunner().invoke(app, ["plan", *arguments])
    assert result.exit_code == 2
    assert words in result.output
