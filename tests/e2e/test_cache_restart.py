"""A cache server that goes and comes back, under live requests."""

from collections import Counter

import pytest

from tests.e2e.expected import assert_of_one_generation
from tests.e2e.services import metric, ready_service
from tests.e2e.traffic import Traffic
from tests.e2e.world import Cache

FEW = 30


@pytest.mark.parametrize("go_away", [Cache.kill, Cache.stop])
def test_a_restart_of_the_cache_degrades_answers_and_heals_by_itself(
    first, cache, go_away, tmp_path
):
    generation = cache.publish(first.expected)
    with ready_service(cache.url, first.build.artifacts, tmp_path / "service.log") as url:
        with Traffic(url, first.asks()) as traffic:
            traffic.wait_for(FEW, lambda answer: answer.source == "hit", "hits before")
            go_away(cache)
            gone = len(traffic.answers)
            traffic.wait_for(FEW, lambda answer: True, "answers while the cache is away")
            back = len(traffic.answers)
            cache.start()
            traffic.wait_for(FEW, lambda answer: answer.source == "hit", "hits afterwards")
        answers = traffic.answers
        lookups = metric(url, "absorb_cache_lookups_total")
        results = metric(url, "absorb_cache_results_total", "result")

    assert_of_one_generation(answers, {generation.name: first.expected})
    in_between = answers[gone + 2 : back]  # two clients: an answer of before may come late
    assert {answer.source for answer in in_between} == {"unavailable"}
    for answer in answers:
        assert answer.body["degraded"] == (answer.source != "hit")
        if answer.source == "unavailable":
            assert cache.url in answer.body["degraded_reason"]
    assert results == Counter(answer.source for answer in answers)
    assert sum(results.values()) == lookups["tiny"] == len(answers)
