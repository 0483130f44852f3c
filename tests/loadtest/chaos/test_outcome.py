import time
from dataclasses import replace

import orjson
import pytest

from loadtest.chaos.expected import Query
from loadtest.chaos.http_client import Reply
from loadtest.chaos.outcome import Outcome, judge
from tests.loadtest.chaos.examples import HIT, answer

QUERY = Query(
    {},
    True,
    {
        "a": {"record": [0.1, 0.2], "cold": [0.5, 0.5]},
        "b": {"record": [0.3, 0.4], "cold": [0.6, 0.6]},
    },
)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answer(), ""),
        (answer(scores=[0.1 + 1e-7, 0.2]), ""),
        (answer(scores=[0.1 + 1e-4, 0.2]), "wrong"),
        (answer(scores=[0.1]), "wrong"),
        (answer(scores=[0.3, 0.4]), "mixed: named a from record, got scores of b from record"),
        (answer(scores=[0.5, 0.5]), "mixed: named a from record, got scores of a from cold"),
        (answer(artifact_id="c"), "wrong"),
        (answer(state={"source": "miss"}), "form: got source miss with degraded False"),
        (answer(degraded=True), "form"),
        (answer(degraded=True, degraded_reason="gone", state={"source": "miss"}), "mixed"),
        (Reply(200, {}, b"["), "form"),
        (answer(429, {"retry-after": "1"}, error="too many"), ""),
        (answer(429, error="too many"), "form: got status 429 without Retry-After"),
        (answer(503, {"retry-after": "1"}), "form: got status 503 without a reason"),
        (answer(400, error="no"), ""),
    ],
)
def test_an_answer_must_have_the_scores_of_the_artifact_and_state_that_it_names(
    reply: Reply, problem: str
) -> None:
    got = judge(QUERY, reply)["problem"]
    assert got.startswith(problem)
    assert bool(got) == bool(problem)


def tensors(first: float) -> Reply:
    columns = {"scores": [first, 0.4], "state_source": ["hit"], "generation": ["g2"]}
    outputs = [{"name": name, "data": values} for name, values in columns.items()]
    return Reply(200, {}, orjson.dumps({"parameters": {"degraded": False}, "outputs": outputs}))


def test_the_scores_of_a_v2_answer_name_its_artifact() -> None:
    fields = judge(QUERY, tensors(0.3))
    assert fields == {"source": "hit", "generation": "g2", "artifact_id": "b", "problem": ""}
    assert judge(QUERY, tensors(0.9))["problem"].startswith("wrong")


def test_a_cold_answer_with_a_reason_is_right() -> None:
    reply = answer(
        degraded=True, degraded_reason="gone", state={"source": "miss"}, scores=[0.5, 0.5]
    )
    assert judge(QUERY, reply)["problem"] == ""


def test_an_outcome_survives_its_line() -> None:
    outcome = replace(HIT, sent_s=time.monotonic(), retried=True, problem="form: \n")
    assert Outcome.from_line(outcome.to_line()) == outcome
