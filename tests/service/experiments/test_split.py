"""Experiments: shares follow the weights, users keep their model, wrong rules are rejected."""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.experiments.split import Split
from service.settings import Settings
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
ONE, TWO = Toy(seed=1), Toy(seed=2)
USERS = [f"user-{n}" for n in range(5_000)]


def assigned(weights: Mapping[str, float], salt: str = "s", users: list[str] = USERS) -> list[str]:
    split = Split(salt, weights)
    return [split.model_of(user) for user in users]


def moves(old: Mapping[str, float], new: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """(from, to) -> share of the users."""
    pairs = [pair for pair in zip(assigned(old), assigned(new), strict=True) if len(set(pair)) == 2]
    return {pair: pairs.count(pair) / len(USERS) for pair in set(pairs)}


@pytest.mark.parametrize(
    "weights", [{"a": 1}, {"a": 9, "b": 1}, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0, "b": 3}]
)
def test_shares_follow_the_weights(weights: Mapping[str, float]):
    found = assigned(weights)
    for model, weight in weights.items():
        share = weight / sum(weights.values())
        sigma = (share * (1 - share) / len(USERS)) ** 0.5
        assert abs(found.count(model) / len(USERS) - share) <= 4 * sigma, model


def test_a_larger_weight_moves_users_only_to_its_model():
    steps = [{"a": 5, "b": 3, "c": weight} for weight in (0, 1, 2, 5)]
    for old, new in pairwise(steps):
        moved = moves(old, new)
        assert {to for _, to in moved} == {"c"}
        grown = new["c"] / sum(new.values()) - old["c"] / sum(old.values())
        assert sum(moved.values()) == pytest.approx(grown, abs=0.02)  # as few as can be
        back = moves(new, old)
        assert {start for start, _ in back} == {"c"}


def test_scaled_and_reordered_weights_are_the_same_split():
    assert assigned({"a": 9, "b": 1}) == assigned({"b": 10, "a": 90})


def test_another_salt_assigns_independently():
    weights = {"a": 1, "b": 1}
    both = list(zip(assigned(weights, "s"), assigned(weights, "t"), strict=True))
    for pair in (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")):
        assert both.count(pair) / len(both) == pytest.approx(0.25, abs=0.03)


def test_the_assignment_is_the_same_in_another_process_and_version():
    users = ["ann", "bob", "carl", "dora", "émile", "42", "a/b c"]
    weights = {"lrea": 4.0, "din": 3.0, "sdim": 3.0}
    code = "import json,sys; from service.experiments.split import Split; s=Split('home',json.loads(sys.argv[1]));"
    code += "print(json.dumps([s.model_of(u) for u in json.loads(sys.argv[2])]))"
    command = [sys.executable, "-c", code, json.dumps(weights), json.dumps(users)]
    done = subprocess.run(
        command, capture_output=True, check=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert json.loads(done.stdout) == assigned(weights, "home", users) == PINNED


PINNED = ["lrea", "sdim", "lrea", "lrea", "din", "lrea", "lrea"]
"""Assignments of the first version: a change would move users of running experiments."""


async def test_requests_are_split_and_the_answer_names_the_model(world: World):
    world.publish(ONE, "one")
    world.publish(TWO, "two")
    split = {
        "home": {"weights": {"one": 1, "two": 1}, "default": True},
        "other": {"weights": {"two": 1}},
    }
    users = [f"u{n}" for n in range(12)]
    expected = dict(zip(users, assigned({"one": 1, "two": 1}, "home", users), strict=True))
    async with world.service(split=split) as service:
        for user in users:
            for named in ({}, {"model": "home"}):
                assert (await service.score(user, **named))["model"] == expected[user]
            assert (await service.score(user, model="one"))["model"] == "one"
            assert (await service.score(user, model="other"))["model"] == "two"
        unknown = await service.client.post(
            "/v1/score", json={"user_id": "u", "candidates": ["i1"], "model": "hme"}
        )
        counted = {
            name: service.metric("absorb_split_requests_total", experiment="home", model=name)
            for name in ("one", "two")
        }
    assert set(expected.values()) == {"one", "two"}
    assert counted == {name: 2 * list(expected.values()).count(name) for name in counted}
    assert unknown.status_code == 404


async def test_models_of_an_experiment_need_not_have_the_same_fields(world: World):
    placed = Toy(seed=1, candidate_names=("display",), context_names=("hour",))
    plain = Toy(seed=2, context_names=("device",))
    world.publish(placed, "one")
    world.publish(plain, "two")
    candidates = [{"id": "i1", "fields": {"display": "front"}}, "i5"]
    context: dict[str, object] = {"hour": "day", "device": "app"}
    columns = {"display": ["front", None]}
    expected = {
        "one": placed.scores(
            placed.state([]), ["i1", "i5"], context={"hour": "day"}, placed=columns
        ),
        "two": plain.scores(plain.state([]), ["i1", "i5"], context={"device": "app"}),
    }
    seen = set()
    async with world.service(split={"home": {"weights": {"one": 1, "two": 1}}}) as service:
        for number in range(12):
            answer = await service.score(f"u{number}", candidates, model="home", context=context)
            assert answer["scores"] == pytest.approx(expected[answer["model"]], abs=1e-6)
            seen.add(answer["model"])
        wrong = {"user_id": "u", "model": "home", "candidates": ["i1"], "context": {"day": "1"}}
        refused = await service.client.post("/v1/score", json=wrong)
    assert seen == {"one", "two"}
    assert refused.status_code == 400
    assert "context: got 'day', expected a field among: hour, device" in refused.json()["error"]


async def test_the_default_model_replaces_an_assigned_model_that_does_not_serve(world: World):
    world.publish(ONE, "one")
    split = {"home": {"weights": {"absent": 1}, "default": True}}
    async with world.service(split=split) as service:
        assert (await service.score())["model"] == "one"
        labels = {"experiment": "home", "model": "absent"}
        assert service.metric("absorb_split_fallbacks_total", **labels) == 1
    async with world.service(split=split, default_model="nowhere") as service:
        answer = await service.client.post("/v1/score", json={"user_id": "u", "candidates": ["i1"]})
        assert answer.status_code == 503


def test_rules_come_as_json_or_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    split = '{"home": {"weights": {"a": 9, "b": 1}, "salt": "x", "default": true}}'
    path = tmp_path / "shadow.json"
    path.write_text('[{"model": "a", "shadow": "b", "share": 0.5}]')
    monkeypatch.setenv("ABSORB_SPLIT", split)
    monkeypatch.setenv("ABSORB_SHADOW", str(path))
    settings = Settings()
    assert settings.split["home"].weights == {"a": 9, "b": 1}
    assert (settings.split["home"].salt, settings.split["home"].default) == ("x", True)
    assert (settings.shadow[0].model, settings.shadow[0].shadow, settings.shadow[0].share) == (
        "a",
        "b",
        0.5,
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("split", "{", "expected: Invalid JSON"),
        ("split", "nowhere.json", "JSON or the path of a JSON file .No such file"),
        ("split", "[]", "at the top level: got .*an object"),
        ("split", '{"home": {}}', "at home.weights: got .*required"),
        (
            "split",
            '{"home": {"weights": {}}}',
            "at home.weights.*at least one model with a weight above 0",
        ),
        ("split", '{"home": {"weights": {"a": 0}}}', "at least one model with a weight above 0"),
        (
            "split",
            '{"home": {"weights": {"a": -1}}}',
            "at home.weights.a: got -1.*greater than or equal to 0",
        ),
        ("split", '{"home": {"weights": {"a": NaN}}}', "at home.weights.a"),
        ("split", '{"home": {"weights": {"a": "x"}}}', "at home.weights.a: got 'x'.*number"),
        ("split", '{"home": {"weights": {"a": 1}, "sald": "x"}}', "at home.sald: .*not permitted"),
        (
            "split",
            '{"a": {"weights": {"a": 1}}}',
            "another name for the experiment than that of its model 'a'",
        ),
        (
            "split",
            '{"x": {"weights": {"a": 1}, "default": true}, "y": {"weights": {"a": 1}, "default": true}}',
            "at most one default, not x, y",
        ),
        (
            "shadow",
            '[{"model": "a", "shadow": "b", "share": 1.5}]',
            "at 0.share: got 1.5.*less than or equal to 1",
        ),
        ("shadow", '[{"model": "a", "shadow": "b", "share": 0}]', "at 0.share: got 0"),
        (
            "shadow",
            '[{"model": "a", "shadow": "a", "share": 1}]',
            "two different models, not 'a' as model",
        ),
        (
            "shadow",
            '[{"model": "a", "shadow": "b", "share": 1}, {"model": "a", "shadow": "b", "share": 0.1}]',
            "shadow 'b' of 'a' once, not twice",
        ),
    ],
)
def test_a_wrong_rule_is_rejected_with_a_reason(
    name: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(f"ABSORB_{name.upper()}", value)
    with pytest.raises(ValidationError, match=problem) as caught:
        Settings()
    assert caught.value.errors()[0]["loc"] == (name,)
