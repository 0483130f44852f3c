"""One request and its outcome. The client process writes it as a line of JSON, and the environment reads it."""

from dataclasses import dataclass

import orjson

from loadtest.chaos.expected import Origin, Query
from loadtest.chaos.http_client import Reply
from loadtest.chaos.protocols import as_v1

FROM_RECORD = ("hit", "stale")
RETRY_AFTER = (429, 503)


@dataclass(frozen=True)
class Outcome:
    """One request.

    Attributes:
        sent_s: time of sending, on the monotonic clock that all processes of a machine share.
        ended_s: time at which the answer was complete or the request failed, on the same clock.
        status: HTTP status; 0: there was no answer.
        failure: why there was no answer: "refused", "closed" (before the complete answer) or "hung"; else empty.
        retried: sent a second time, because a kept-alive connection closed before the first byte of the answer.
        is_known: the user has a record.
        source: source of the state, as the answer names it.
        generation: generation that the answer names.
        artifact_id: artifact that the answer names, or whose scores it has.
        problem: "wrong", "mixed" or "form", and a text; empty: the answer is right.
    """

    sent_s: float
    ended_s: float
    status: int = 0
    failure: str = ""
    retried: bool = False
    is_known: bool = True
    source: str = ""
    generation: str = ""
    artifact_id: str = ""
    problem: str = ""

    def to_line(self) -> bytes:
        """The outcome as one line of JSON."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes) -> "Outcome":
        """Inverse of `to_line`."""
        return cls(**orjson.loads(line))

    @property
    def is_hit(self) -> bool:
        """Answered from the user's own record, and not degraded."""
        return self.status == 200 and self.source == "hit" and not self.problem


def judge(query: Query, reply: Reply) -> dict[str, str]:
    """Fields of the outcome that an answer gives: `source`, `generation`, `artifact_id`, `problem`."""
    try:
        body = reply.json()
        if not isinstance(body, dict):
            raise TypeError(f"the body is {type(body).__name__}")
        if reply.status != 200:
            return {"problem": _problem_of_refusal(reply, body)}
        body = as_v1(body)
        source, generation = body["state"]["source"], body["generation"]
        artifact_id = body["artifact_id"] or _fitting(query, body["scores"], source)
        problem = _problem(query, body, source, artifact_id)
        named = {"source": source, "generation": generation, "artifact_id": artifact_id}
        return {**named, "problem": problem}
    except (ValueError, KeyError, TypeError) as error:
        return {"problem": f"form: {error!r} in {reply.body[:200]!r}"}


def _problem_of_refusal(reply: Reply, body: dict[str, object]) -> str:
    if not body.get("error"):
        return f"form: got status {reply.status} without a reason: {body}"
    if reply.status in RETRY_AFTER and "retry-after" not in reply.headers:
        return f"form: got status {reply.status} without Retry-After"
    return ""


def _origin(source: str) -> Origin:
    return "record" if source in FROM_RECORD else "cold"


def _fitting(query: Query, scores: list[float], source: str) -> str:
    """The artifact that gives these scores; empty if none does. `verdict.py` checks that it is the generation's."""
    origin = _origin(source)
    fitting = (known for known in query.expected if query.matches(scores, known, origin))
    return next(fitting, "")


def _problem(query: Query, body: dict[str, object], source: str, artifact_id: str) -> str:
    degraded, reason = body["degraded"], body["degraded_reason"]
    if degraded != (source != "hit") or bool(reason) != degraded:
        return f"form: got source {source} with degraded {degraded} and reason {reason!r}"
    scores = body["scores"]
    if not isinstance(scores, list) or artifact_id not in query.expected:
        return f"wrong: scores {scores!r} by {artifact_id}"
    origin = _origin(source)
    if query.matches(scores, artifact_id, origin):
        return ""
    others = [
        f"{other} from {kind}"
        for other, kinds in query.expected.items()
        for kind in kinds
        if query.matches(scores, other, kind)
    ]
    if others:
        return f"mixed: named {artifact_id} from {origin}, got scores of {' or '.join(others)}"
    return f"wrong: {scores[:3]}…, expected {query.expected[artifact_id][origin][:3]}…"
