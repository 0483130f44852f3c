"""`absorb plan`: the same numbers as a table and as JSON, for a model, an artifact and plain numbers."""

import json

import pytest
from typer.testing import CliRunner

from builder.cli.main import app
from builder.cli.progress_bar import console
from builder.publish.capacity import load_of_spec, make_plan
from models.contract.record import TensorSpec


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that wraps no cell, whatever COLUMNS was when it was made."""
    monkeypatch.setattr(console, "_width", 160)


def asked(*arguments: object) -> str:
    said = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert said.exit_code == 0, said.output
    return said.stdout


def test_numbers_give_a_table_with_every_dtype():
    shown = asked("numbers", "--users", 1000000, "--rank", 16, "--dim", 32, "--shards", 3)
    assert "lrea: 1,000,000 users, 3 shard(s)" in shown
    for word in ("fp32", "fp16", "int8", "one generation", "roll back to", "being written"):
        assert word in shown


def test_the_answer_to_a_program_has_the_same_numbers():
    told = json.loads(asked("numbers", "--users", 1000, "--rank", 4, "--dim", 8, "--json"))
    spec = (TensorSpec("a", (4, 8)), TensorSpec("b", (4, 8)))
    expected = make_plan(load_of_spec("lrea", 1000, spec, 32, 16), 0, 1)
    assert [one["user_bytes"] for one in told["needs"]] == [one.user_bytes for one in expected]
    assert told["measured"] == 0


def test_an_artifact_and_a_published_model_say_the_same(finished):
    artifact = finished.artifact()
    users = finished.events().num_users
    options = ["--artifacts", finished.artifacts, "--json"]
    by_artifact = json.loads(asked("artifact", artifact.artifact_id, "--users", users, *options))
    by_model = json.loads(
        asked("model", finished.recipe.serve_as, "--cache", finished.cache_url, *options)
    )
    assert by_model["users"] == by_artifact["users"] == users
    assert by_model["measured"] == users
    assert by_model["record_bytes"]["fp32"] == pytest.approx(
        by_artifact["record_bytes"]["fp32"], abs=16
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["numbers", "--users", "9"], "expected --bytes, or both"),
        (["numbers", "--users", "9", "--rank", "4"], "expected --bytes, or both"),
        (["numbers", "--bytes", "9"], "--users"),
        (["numbers", "--users", "0", "--bytes", "9"], "--users"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], words: str):
    said = CliRunner().invoke(app, ["plan", *arguments])
    assert said.exit_code == 2
    assert words in said.output
