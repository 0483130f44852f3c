"""One short real chaos: a service, a cache, a client; the cache is killed and a generation flips under load."""

import asyncio
from pathlib import Path

from loadtest.chaos import cache_faults
from loadtest.chaos.__main__ import main
from loadtest.chaos.cast import make_cast
from loadtest.chaos.play import play
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.stage import Stage
from loadtest.chaos.verdict import conclude
from tests.service.toy import Toy


async def both(stage: Stage) -> None:
    await cache_faults.killed(stage)
    async with stage.fault("generation flipped"):
        generation = await stage.publish()
    if not await stage.serves(generation):
        stage.problems.append("the new generation does not serve")


def test_a_killed_cache_and_a_flip_break_no_rule(tmp_path: Path) -> None:
    cast = make_cast([Toy(seed).save(tmp_path / "artifacts") for seed in (1, 2)])
    # On a busy machine a poll of the pointer may take the place of one hit and more.
    scenario = Scenario(
        "both", "", both, cache_faults.UNAVAILABLE, settings=cache_faults.NO_HOST_TIER
    )

    evidence = asyncio.run(play(scenario, cast, tmp_path / "run", is_quick=True, settings={}))

    figures = conclude(evidence)
    assert figures.broken == []
    assert (figures.lost, figures.mixed, figures.wrong, figures.faults) == (0, 0, 0, 2)
    assert {"hit", "unavailable"} <= set(figures.sources)
    assert len({one.artifact_id for one in evidence.asked if one.is_hit}) == 2


def test_the_list_needs_nothing_and_an_unknown_name_is_code_2(capsys, tmp_path: Path) -> None:
    assert main(["--list"]) == 0
    assert "cache-killed" in capsys.readouterr().out
