"""Kill -9 of the builder in each of its steps, under live requests."""

import re

import pytest

from builder.pipeline import STEPS
from tests.e2e.expected import assert_of_one_generation

pytestmark = pytest.mark.timeout(1800)
"""The first test to ask for `killed` pays for nine builders, each a minute where others train at the same time."""


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_step_leaves_the_finished_ones_and_the_old_generation(killed, step):
    kill = killed.kills[step]

    before = list(STEPS)[: list(STEPS).index(step)]
    assert kill.stamps == before  # the kill hit inside the step: it is not stamped, all before are
    assert kill.serving == killed.old


@pytest.mark.parametrize("step", STEPS)
def test_a_run_after_a_kill_keeps_the_finished_steps_and_does_the_others(killed, step):
    names = list(STEPS)
    following = [*names, "flip"][names.index(step) + 1]

    shown = killed.kills[following].shown
    for name in names[: names.index(step)]:
        assert re.search(f"· {name} +nothing changed, kept", shown)
    if step != "publish":
        assert f"✓ {step}" in shown


def test_only_a_builder_that_was_killed_while_writing_leaves_records(killed):
    for step in STEPS:
        unfinished = killed.kills[step].generations - {killed.old}
        assert len(unfinished) == (step == "publish")


def test_a_builder_killed_between_flip_and_stamp_has_published_a_whole_generation(killed):
    kill = killed.kills["flip"]

    assert kill.stamps == list(STEPS)[:-1]
    assert kill.serving not in (killed.old, killed.new)
    assert len(killed.expected[kill.serving].records) == 3000


def test_the_last_run_only_publishes_and_sweeps_what_the_killed_ones_left(killed):
    for name in list(STEPS)[:-1]:
        assert re.search(f"· {name} +nothing changed, kept", killed.shown)
    assert "✓ publish" in killed.shown
    assert killed.left == {killed.new, killed.kills["flip"].serving}


def test_no_request_fails_and_no_score_mixes_generations(killed):
    assert_of_one_generation(killed.answers, killed.expected)
    assert {answer.generation for answer in killed.answers} == set(killed.expected)
    assert {answer.source for answer in killed.answers} == {"hit", "miss"}


def test_the_old_generation_gives_the_very_same_scores_until_the_flip(killed):
    scores: dict[object, set[tuple[float, ...]]] = {}
    for answer in killed.answers[: killed.num_old]:
        assert answer.generation == killed.old
        scores.setdefault(answer.ask, set()).add(tuple(answer.body["scores"]))

    assert len(scores) == 60
    assert all(len(different) == 1 for different in scores.values())
