"""The demo's purchase: a real service and a real worker over a small build, whose records follow events."""

import re
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.live.event import Event
from models.live.keys import log_key
from service.tools import demo_purchase, running_worker
from service.tools.demo import app
from service.tools.demo_purchase import Shopper, middle, ranks
from tests.builds import Builds
from tests.cases import Case
from tests.service.follow.truth import FIRST_CUT_S, Truth
from tests.service.toy import Toy
from tests.service.world import World


@pytest.fixture
def truth(builds: Builds, in_a_folder: World, monkeypatch: pytest.MonkeyPatch) -> Truth:
    """A published build with base histories."""
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(builds.artifacts))
    truth = Truth(in_a_folder.redis, [builds.artifact(Case("lrea", "activity"))])
    items = truth.items
    truth.log["u1"] = [(FIRST_CUT_S - 3600 * (4 - n), items[n]) for n in range(3)]
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    return truth


def run(truth: Truth, *options: str) -> Result:
    candidates = [f"--candidate={item}" for item in truth.items[:9]]
    result = CliRunner().invoke(app, ["--user", "u1", *candidates, *options])
    assert result.exit_code == 0, result.stderr
    assert "curl -s" in result.stdout
    return result


def events(truth: Truth) -> list[Event]:
    """The user's live events, by time."""
    raw: Any = truth.redis.hgetall(log_key("u1"))
    found = [Event.from_bytes(value) for name, value in raw.items() if name]
    return sorted(found, key=lambda one: one.ts_s)


def test_a_purchase_changes_the_ranking_and_every_demo_buys_once(truth: Truth) -> None:
    for number in (1, 2):
        out = run(truth).stdout

        live = events(truth)
        assert len(live) == number
        bought = live[-1]
        assert (bought.kind, bought.ts_s) == ("buy", FIRST_CUT_S + 60 * number)
        assert f"User u1 buys {bought.item_id}, from the middle of the ranking" in out
        assert re.search(r"From the POST to the changed ranking: \d+ ms\.", out)
        assert ("events after the build already" in out) == (number == 2)
        first, moved = out.split("Bought, and what else moved most")
        scored = dict(re.findall(r"│ +\d+ +│ (\S+) +│ +(0\.\d+) │", first))
        rows = re.findall(r"│ (\S+) +│ +(\d+) │ +(\d+) │ +(0\.\d+) │ +(0\.\d+) │", moved)
        assert rows[0][0] == bought.item_id
        assert abs(int(rows[0][1]) - 5) <= 3  # three of nine candidates were bought lately
        assert len(rows) == 6
        assert all(scored[item] == before for item, _, _, before, _ in rows)
        assert any(before != after for *_, before, after in rows)
        truth.live["u1"] = {one.event_id: one for one in live}
        assert truth.check() == 1


def test_a_worker_that_is_not_ready_is_named_and_the_demo_ends_well(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_worker, "START_LIMIT_S", 0.0)

    assert "No purchase to show: the worker is not ready (log: var/demo/follow.log)" in (
        run(truth).stdout
    )
    assert events(truth) == []


def test_a_state_that_does_not_change_in_time_is_named_and_the_next_demo_goes_on(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(demo_purchase, "LIMIT_S", 0.0)
        assert "No purchase to show: 0 s after the purchase of" in run(truth).stdout

    assert "From the POST to the changed ranking" in run(truth).stdout
    assert len(events(truth)) == 2


def test_without_a_purchase_nothing_is_sent(truth: Truth) -> None:
    assert "urchase" not in run(truth, "--no-purchase").stdout
    assert events(truth) == []
    assert not demo_purchase.LOG.exists()


def test_a_build_without_base_histories_is_named(in_a_folder: World) -> None:
    generation = in_a_folder.publish(Toy())

    result = CliRunner().invoke(app, ["--user", "ann"])

    assert result.exit_code == 0
    assert f"generation {generation.name} has no base history of user ann" in result.stdout
    assert not demo_purchase.LOG.exists()


def test_the_middle_is_neither_known_to_the_user_nor_unknown_to_the_model() -> None:
    answer = {"scores": [0.9, 0.1, 0.5, 0.4, 0.5], "unknown_candidates": ["b"], "new_items": []}
    shopper = Shopper("u", frozenset(["e"]), ["a", "b", {"id": "c"}, "d", "e"], "m")

    assert ranks(answer, shopper.ids) == {"a": 1, "c": 2, "e": 3, "d": 4, "b": 5}
    assert middle(answer, shopper) == "c"
