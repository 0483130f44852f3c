"""The rules of the chaos runs: what breaks them, and what does not."""

import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from loadtest.chaos.counters import problems_of
from loadtest.chaos.expected import Query
from loadtest.chaos.http_client import Reply, parse_head, post
from loadtest.chaos.memory import growth, leak, resident_bytes
from loadtest.chaos.outcome import Outcome, judge
from loadtest.chaos.protocols import v1_request, v2_request
from loadtest.chaos.report import markdown, total
from loadtest.chaos.swaps import p99_by_part, slower
from loadtest.chaos.verdict import Downtime, Evidence, Fault, conclude

HIT = Outcome(1.0, 1.1, 200, source="hit", generation="g1", artifact_id="a")
GOOD = Evidence("calm", frozenset(), [HIT] * 100, {"g1": "a", "g2": "b"})
QUERY = Query(
    {}, True, {"a": {"record": [0.1, 0.2], "cold": [0.5, 0.5]}, "b": {"record": [0.3, 0.4], "cold": [0.6, 0.6]}}
)  # fmt: skip


def answer(status: int = 200, headers: dict[str, str] | None = None, **changes: object) -> Reply:
    body = {
        "artifact_id": "a", "generation": "g1", "state": {"source": "hit"}, "degraded": False,
        "degraded_reason": None, "scores": [0.1, 0.2], **changes,
    }  # fmt: skip
    return Reply(status, headers or {}, orjson.dumps(body))


def broken(evidence: Evidence) -> str:
    return "; ".join(conclude(evidence).broken)


def with_one(one: Outcome, **changes: Any) -> Evidence:
    return replace(GOOD, outcomes=[*GOOD.outcomes, one], **changes)


def test_a_calm_run_breaks_nothing() -> None:
    figures = conclude(GOOD)
    assert (figures.requests, figures.lost, figures.codes) == (100, 0, {"200": 100})
    assert figures.broken == []


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (answer(), ""),
        (answer(scores=[0.1 + 1e-7, 0.2]), ""),
        (answer(scores=[0.1 + 1e-5, 0.2]), "wrong"),
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
def test_an_answer_is_held_against_what_it_says(reply: Reply, problem: str) -> None:
    found = judge(QUERY, reply)["problem"]
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


def tensors(first: float) -> Reply:
    columns = {"scores": [first, 0.4], "state_source": ["hit"], "generation": ["g2"]}
    outputs = [{"name": name, "data": values} for name, values in columns.items()]
    return Reply(200, {}, orjson.dumps({"parameters": {"degraded": False}, "outputs": outputs}))


def test_an_answer_in_tensors_is_the_artifacts_whose_scores_it_has() -> None:
    told = judge(QUERY, tensors(0.3))
    assert told == {"source": "hit", "generation": "g2", "artifact_id": "b", "problem": ""}
    assert judge(QUERY, tensors(0.9))["problem"].startswith("wrong")


def test_a_question_has_the_same_ids_at_both_doors() -> None:
    body = {"user_id": "u", "candidates": ["1", "2"], "context": {"hour": "9"}}
    assert v1_request(body).endswith(orjson.dumps(body))
    inputs = orjson.loads(v2_request(body, "m").partition(b"\r\n\r\n")[2])["inputs"]
    assert {one["name"]: one["data"] for one in inputs} == {
        "user_id": ["u"], "candidates": ["1", "2"], "hour": ["9"],
    }  # fmt: skip


def test_a_cold_answer_that_says_why_is_right() -> None:
    reply = answer(
        degraded=True, degraded_reason="gone", state={"source": "miss"}, scores=[0.5, 0.5]
    )
    assert judge(QUERY, reply)["problem"] == ""


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (replace(HIT, status=0, failure="hung"), "1 requests lost, the first: hung"),
        (replace(HIT, status=500), "status 500 for 1 good requests"),
        (replace(HIT, status=400), "status 400 for 1 good requests"),
        (replace(HIT, problem="wrong: [1]"), "1 answers are wrong"),
        (replace(HIT, problem="mixed: a is b"), "1 answers mix generations"),
        (replace(HIT, generation="g2"), "1 answers mix generations"),
        (replace(HIT, generation="g3"), "1 answers mix generations"),
        (replace(HIT, source="miss"), "1 answers are miss without a fault that explains it"),
        (replace(HIT, problem="form: no reason"), "1 answers are form"),
    ],
)
def test_a_broken_rule_is_named(one: Outcome, text: str) -> None:
    assert text in broken(with_one(one))


@pytest.mark.parametrize(
    "one",
    [
        replace(HIT, status=429),
        replace(HIT, status=503, source="", generation=""),
        replace(HIT, source="miss", is_known=False),
        replace(HIT, source="unavailable"),
    ],
)
def test_what_a_busy_service_may_do_breaks_nothing(one: Outcome) -> None:
    assert broken(with_one(one)) == ""


@pytest.mark.parametrize(
    ("sent_s", "failure", "is_kill", "is_lost"),
    [
        (9.0, "closed", True, True),  # ended before the kill
        (9.95, "closed", True, False),
        (9.5, "closed", False, True),  # in flight when it was told to stop: has to be answered
        (9.95, "closed", False, False),
        (10.5, "refused", False, False),
        (13.0, "refused", True, True),
        (10.5, "hung", True, True),
    ],
)
def test_only_a_process_that_is_down_excuses(
    sent_s: float, failure: str, is_kill: bool, is_lost: bool
) -> None:
    one = Outcome(sent_s, sent_s + 0.6, failure=failure)
    figures = conclude(with_one(one, downtimes=[Downtime(10.0, 12.0, is_kill)]))
    assert (figures.lost, figures.excused) == ((1, 0) if is_lost else (0, 1))


def test_a_fault_that_nobody_felt_proves_nothing() -> None:
    corrupt = replace(GOOD, sources=frozenset({"corrupt"}), required=frozenset({"corrupt"}))
    assert broken(corrupt) == "no answer was corrupt: the fault had no effect"
    required = replace(HIT, source="corrupt")
    assert broken(replace(corrupt, outcomes=[*GOOD.outcomes, required])) == ""


def test_recovery_is_counted_from_the_end_of_a_fault() -> None:
    faults = [Fault("killed", 1.0, 3.0, 3.5), Fault("paused", 4.0, 5.0, None), Fault("x", 1, 2, 60)]
    figures = conclude(replace(GOOD, faults=faults))
    assert figures.recovery_s == [0.5, 58]
    assert figures.broken == ["no hit after paused", "58.0 s until the first hit after x"]


def test_counters_have_to_add_up() -> None:
    text = (
        "# TYPE absorb_cache_lookups counter\n"
        'absorb_cache_lookups_total{{model="m"}} {}\n'
        "# TYPE absorb_cache_results counter\n"
        'absorb_cache_results_total{{model="m",result="hit"}} 3.0\n'
        'absorb_cache_results_total{{model="m",result="miss"}} 2.0\n'
        "# TYPE absorb_cache_tier_lookups counter\n"
        'absorb_cache_tier_lookups_total{{tier="host"}} {}\n'
        "# TYPE absorb_cache_tier_results counter\n"
        'absorb_cache_tier_results_total{{tier="host",result="hit"}} 4.0\n'
    )
    assert problems_of(text.format(5, 4)) == []
    assert problems_of(text.format(6, 4)) == ["counters of m: results come to 5, lookups to 6"]
    assert problems_of(text.format(5, 3)) == ["counters of host: results come to 4, lookups to 3"]
    assert len(problems_of("")) == 2


HOLDER = """
import sys
kept = []
for line in sys.stdin:
    fresh = bytearray(b"x" * 2_000_000)
    if sys.argv[1] == "leaks":
        kept.append(fresh)
    print(flush=True)
"""


@pytest.mark.parametrize("kind", ["leaks", "is flat"])
def test_a_process_that_leaks_is_found_out_and_one_that_does_not_is_not(kind: str) -> None:
    samples = []
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        asking, answering = process.stdin, process.stdout
        assert asking is not None
        assert answering is not None
        for _ in range(20):
            asking.write(b"\n")
            asking.flush()
            answering.readline()
            samples.append(resident_bytes(process.pid))
        asking.close()
    assert (leak(samples) != "") == (kind == "leaks")


def test_growth_compares_the_ends_and_one_peak_says_nothing() -> None:
    mib = 1 << 20
    assert growth([100 * mib, 110 * mib]) == pytest.approx(1.1)
    assert leak([100 * mib] * 5 + [300 * mib] + [101 * mib] * 20) == ""
    assert "grew by 10.0%" in leak([100 * mib] * 10 + [110 * mib] * 10)
    assert leak([mib, mib + 300_000]) == ""  # a third of a mebibyte is no leak
    assert leak([100 * mib]) == ""


def test_a_latency_that_grows_is_named() -> None:
    def took(ms: float, at: int) -> Outcome:
        return Outcome(float(at), at + ms / 1000, 200)

    flat = p99_by_part([took(5, at) for at in range(100)])
    grown = p99_by_part([took(5 + at, at) for at in range(100)])
    assert slower(flat) == ""
    assert "p99 went from" in slower(grown)


def test_the_page_has_a_row_for_each_scenario_and_their_sum() -> None:
    played = [conclude(GOOD), conclude(with_one(replace(HIT, status=500), abuses={"bomb: 413": 2}))]
    page = markdown(played, "make chaos")
    assert "| calm | 100 | 0 | 200: 100 |" in page
    assert "| all | 201 | 0 | 200: 200, 500: 1 |" in page
    assert "bomb: 413 (2)" in page
    assert total(played).broken == ["calm failed"]


def test_an_answers_head_is_read() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\ncontent-length: 3\r\n\r\n"
    assert parse_head(head) == (429, {"retry-after": "1", "content-length": "3"})
    assert post("/x", b"{}", "A: b").endswith(
        b"\r\nA: b\r\nContent-Type: application/json\r\n\r\n{}"
    )


def test_what_was_asked_survives_its_line() -> None:
    one = replace(HIT, sent_s=time.monotonic(), retried=True, problem="form: \n")
    assert Outcome.from_line(one.to_line()) == one
