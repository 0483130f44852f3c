"""Generations that flip under live requests, between two models whose scores differ everywhere."""

from functools import partial

import numpy as np
import pytest

from builder.publish.generations import rollback
from tests.e2e.builders import NAME, Builder, finish
from tests.e2e.expected import LIMIT, Expected, assert_of_one_generation
from tests.e2e.services import metric, ready_service
from tests.e2e.traffic import Answer, Ask, Traffic
from tests.e2e.world import Cache

pytestmark = pytest.mark.timeout(1800)
"""The first test to ask for `killed` pays for nine builders, each a minute where others train at the same time."""

FLIPS = 10
FEW = 15
CLEARLY = 10 * LIMIT
"""A score that is right for one of the two cannot be mistaken for the other's."""


def test_no_score_mixes_generations_while_they_flip(first, killed, cache, tmp_path):
    models = first.expected, killed.expected[killed.new]
    asks = [ask for ask in first.asks(150) if _differ(ask, *models)]
    assert len(asks) >= 40
    expected = {cache.publish(models[0]).name: models[0]}
    with (
        ready_service(cache.url, first.build.artifacts, tmp_path / "service.log") as url,
        Traffic(url, asks) as traffic,
    ):
        for flip in range(1, FLIPS + 1):
            model = models[flip % 2]
            serving = _flip(cache, model, flip)
            expected[serving] = model
            shows = partial(_is_of, serving)
            traffic.wait_for(FEW, shows, f"answers after flip {flip}")
        swaps = metric(url, "absorb_swaps_total")

    assert_of_one_generation(traffic.answers, expected)
    assert {answer.generation for answer in traffic.answers} == set(expected)
    assert {answer.source for answer in traffic.answers} == {"hit", "miss"}
    assert swaps == {NAME: FLIPS + 1}


def _differ(ask: Ask, one: Expected, other: Expected) -> bool:
    """Whether every score of the two models differs clearly."""
    is_cold = ask.user not in one.records
    difference = np.abs(one.scores(ask, is_cold) - other.scores(ask, is_cold))
    return bool(difference.min() > CLEARLY)


def _flip(cache: Cache, model: Expected, flip: int) -> str:
    """Publish a model, or every third time roll back to it; name of the generation that serves then."""
    if flip % 3:
        return cache.publish(model).name
    if flip == 3:
        finish(Builder("rollback", NAME, "--cache", cache.url))
    else:
        rollback(cache.client, NAME)
    serving = cache.serving()
    assert serving.artifact_id == model.artifact.artifact_id
    return serving.name


def _is_of(generation: str, answer: Answer) -> bool:
    return answer.generation == generation
