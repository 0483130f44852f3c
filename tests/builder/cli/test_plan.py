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
from builder.publish.capacity import load_of_spec, make_plan
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
    for word in ("fp32", "fp16", "int8", "one generation", "roll back to", "being written"):
        assert word in shown


def test_the_answer_to_a_program_has_the_same_numbers():
    plan = json.loads(run_plan("numbers", "--users", 1000, "--rank", 4, "--dim", 8, "--json"))
    spec = (TensorSpec("a", (4, 8)), TensorSpec("b", (4, 8)))
    expected = make_plan(load_of_spec("lrea", 1000, spec, 32, 16), 0, 1)
    assert [need["user_bytes"] for need in plan["needs"]] == [need.user_bytes for need in expected]
    assert plan["measured"] == 0


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
