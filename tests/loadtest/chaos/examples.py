"""Outcomes and evidence that several tests of the chaos runs change."""

from dataclasses import replace
from typing import Any

import orjson

from loadtest.chaos.http_client import Reply
from loadtest.chaos.outcome import Outcome
from loadtest.chaos.verdict import Evidence

HIT = Outcome(1.0, 1.1, 200, source="hit", generation="g1", artifact_id="a")


GOOD = Evidence("calm", frozenset(), [HIT] * 100, {"g1": "a", "g2": "b"})


def with_outcome(outcome: Outcome, **changes: Any) -> Evidence:
    return replace(GOOD, outcomes=[*GOOD.outcomes, outcome], **changes)


def answer(status: int = 200, headers: dict[str, str] | None = None, **changes: object) -> Reply:
    body = {
        "artifact_id": "a",
        "generation": "g1",
        "state": {"source": "hit"},
        "degraded": False,
        "degraded_reason": None,
        "scores": [0.1, 0.2],
        **changes,
    }
    return Reply(status, headers or {}, orjson.dumps(body))
