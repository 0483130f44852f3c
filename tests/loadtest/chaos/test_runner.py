"""One short real chaos: a service, a cache, a client; the cache is killed and a generation flips under load."""

import asyncio
from pathlib import Path

import pytest

from loadtest.chaos import __main__ as program
from loadtest.chaos.__main__ import app
from loadtest.chaos.environment import Environment
from loadtest.chaos.faults import cache as cache_faults
from loadtest.chaos.fixtures import make_fixtures
from loadtest.chaos.runner import run_scenario
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.verdict import conclude
from tests.loadtest.command import run
from tests.service.toy import Toy


async def both(environment: Environment) -> None:
    environment.memory.append(0)  # the warm-up
    await cache_faults.killed(environment)
    async with environment.fault("generation flipped"):
        generation = await environment.publish()
    if not await environment.serves(generation):
        environment.problems.append("the new generation does not serve")


def test_a_killed_cache_and_a_flip_break_no_rule(tmp_path: Path) -> None:
    toys = [Toy(seed, candidate_names=("display", "mailer")) for seed in (1, 2)]
    fixtures = make_fixtures([toy.save(tmp_path / "artifacts") for toy in toys])
    assert set(fixtures.queries[0].body["candidates"][0]["fields"]) == {"display", "mailer"}
    # On a busy machine, polls of the pointer may delay some hits.
    scenario = Scenario(
        "both", "", both, cache_faults.UNAVAILABLE, settings=cache_faults.NO_HOST_TIER, warm_up=1
    )

    evidence = asyncio.run(
        run_scenario(scenario, fixtures, tmp_path / "run", is_quick=True, settings={})
    )

    figures = conclude(evidence)
    assert figures.broken == []
    assert (figures.lost, figures.mixed, figures.wrong, figures.faults) == (0, 0, 0, 2)
    (memory,) = evidence.memory
    assert memory > 0
    assert {"hit", "unavailable"} <= set(figures.sources)
    assert len({o.artifact_id for o in evidence.outcomes if o.is_hit}) == 2


def test_the_list_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "--list") == 0
    assert "cache-killed" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["no-such-scenario"], ["swaps", "flips"]])
def test_a_wrong_name_is_code_2(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = [Toy(seed).save(tmp_path / "artifacts") for seed in (1, 2)]
    monkeypatch.setattr(program, "trained_artifacts", lambda root: artifacts)
    assert run(app, *names, "--out", tmp_path) == 2
