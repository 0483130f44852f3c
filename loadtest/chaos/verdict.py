"""The verdict on a scenario: figures, and one sentence for each broken rule.

A request is lost if it was sent to a running process and got no complete answer. Requests without an answer are
excused from a kill until the new process is ready. While a process drains, requests sent before the signal must be
answered, and later ones may be refused.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.chaos.memory import growth, leak
from loadtest.chaos.outcome import Outcome

REJECTIONS = frozenset({429, 503, 504})
"""Rejections of valid requests: too many at once, not ready, deadline exceeded."""
RECOVERY_LIMIT_S = 20.0
"""Longest time from the end of a fault to the first hit, in seconds; it includes the start of a killed service."""
DRAIN_RACE_S = 0.1
"""A request sent this short a time before the signal may find the listener closing."""
TOLERATED_SHARE, TOLERATED = 0.02, 5
"""Share or number of requests that may be degraded without a fault: on a busy machine the cache answers late."""


@dataclass(frozen=True)
class Fault:
    """One fault; times are on the monotonic clock.

    Attributes:
        name: name of the fault.
        started_s: begin of the fault.
        ended_s: end of the fault.
        recovered_s: end of the first hit after the fault; None: there was none in time.
    """

    name: str
    started_s: float
    ended_s: float
    recovered_s: float | None

    @property
    def recovery_s(self) -> float | None:
        """Seconds from the end of the fault to the first hit."""
        return None if self.recovered_s is None else self.recovered_s - self.ended_s


@dataclass(frozen=True)
class Downtime:
    """A period without a process that takes requests."""

    started_s: float
    ended_s: float
    is_kill: bool

    def excuses(self, outcome: Outcome) -> bool:
        """Whether it explains that a request got no answer."""
        is_outside = outcome.sent_s > self.ended_s or outcome.ended_s < self.started_s
        if outcome.failure == "hung" or is_outside:
            return False
        return self.is_kill or outcome.sent_s >= self.started_s - DRAIN_RACE_S


@dataclass(frozen=True)
class Evidence:
    """Record of one scenario's run.

    Attributes:
        scenario: name of the scenario.
        sources: degraded sources that its faults may cause.
        outcomes: outcomes of all requests of the steady load.
        generations: name -> artifact id of every published generation.
        faults: faults in order.
        downtimes: downtimes in order.
        memory: bytes of the last service process after each round, without the warm-up.
        abuses: "request: outcome" -> count, for requests outside the steady load.
        problems: violations found by the scenario, in the counters and in the log.
        required: sources that some answers must come from; otherwise the faults had no effect.
    """

    scenario: str
    sources: frozenset[str]
    outcomes: Sequence[Outcome]
    generations: Mapping[str, str]
    faults: Sequence[Fault] = ()
    downtimes: Sequence[Downtime] = ()
    memory: Sequence[int] = ()
    abuses: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()
    required: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Figures:
    """Figures of one scenario, and the rules that it broke."""

    scenario: str
    requests: int
    faults: int
    codes: dict[str, int]
    sources: dict[str, int]
    lost: int
    mixed: int
    wrong: int
    excused: int
    retried: int
    recovery_s: list[float]
    memory_growth: float | None
    memory_bytes: int
    abuses: dict[str, int]
    broken: list[str]


def conclude(evidence: Evidence) -> Figures:
    """Compute the figures and check the rules."""
    outcomes = evidence.outcomes
    unanswered = [o for o in outcomes if o.failure]
    lost = [o for o in unanswered if not _is_excused(o, evidence.downtimes)]
    mixed = [o for o in outcomes if _is_mixed(o, evidence.generations)]
    recovered = [f.recovery_s for f in evidence.faults if f.recovery_s is not None]
    memory = evidence.memory
    return Figures(
        evidence.scenario,
        len(outcomes),
        len(evidence.faults),
        dict(Counter(str(o.status) for o in outcomes if o.status)),
        dict(Counter(o.source for o in outcomes if o.source)),
        len(lost),
        len(mixed),
        sum(o.problem.startswith("wrong") for o in outcomes),
        len(unanswered) - len(lost),
        sum(o.retried for o in outcomes),
        recovered,
        growth(memory) if len(memory) > 1 else None,
        memory[-1] if memory else 0,
        dict(evidence.abuses),
        broken_rules(evidence, lost, mixed),
    )


def broken_rules(
    evidence: Evidence, lost: Sequence[Outcome], mixed: Sequence[Outcome]
) -> list[str]:
    """One sentence for each rule that does not hold."""
    outcomes = evidence.outcomes
    broken = list(evidence.problems)
    if not any(o.is_hit for o in outcomes):
        broken.append("no request was answered from a user's record")
    if lost:
        broken.append(f"{len(lost)} requests lost, the first: {lost[0].failure}")
    if mixed:
        broken.append(f"{len(mixed)} answers mix generations, the first: {_shown(mixed[0])}")
    for kind in ("wrong", "form"):
        problems = [o.problem for o in outcomes if o.problem.startswith(kind)]
        if problems:
            broken.append(f"{len(problems)} answers are {kind}, the first: {problems[0]}")
    codes = Counter(o.status for o in outcomes if o.status not in {0, 200} | REJECTIONS)
    broken += [f"status {code} for {times} good requests" for code, times in codes.items()]
    broken += _unexplained_degraded(evidence)
    missing = evidence.required - {o.source for o in outcomes if o.is_known}
    broken += [f"no answer was {name}: the fault had no effect" for name in sorted(missing)]
    broken += [
        f"no hit after {fault.name}" for fault in evidence.faults if fault.recovery_s is None
    ]
    slow = [fault for fault in evidence.faults if (fault.recovery_s or 0) > RECOVERY_LIMIT_S]
    broken += [f"{fault.recovery_s:.1f} s until the first hit after {fault.name}" for fault in slow]
    broken += [problem for problem in (leak(evidence.memory),) if problem]
    return broken


def _is_excused(outcome: Outcome, downtimes: Sequence[Downtime]) -> bool:
    return any(downtime.excuses(outcome) for downtime in downtimes)


def _is_mixed(outcome: Outcome, generations: Mapping[str, str]) -> bool:
    if outcome.status != 200 or not outcome.generation or outcome.problem.startswith("wrong"):
        return False
    return (
        outcome.problem.startswith("mixed")
        or generations.get(outcome.generation) != outcome.artifact_id
    )


def _shown(outcome: Outcome) -> str:
    return outcome.problem or f"{outcome.generation} by {outcome.artifact_id}"


def _unexplained_degraded(evidence: Evidence) -> list[str]:
    """Degraded answers to known users that no fault of the scenario explains."""
    known = [o for o in evidence.outcomes if o.is_known and o.status == 200]
    degraded = Counter(o.source for o in known if o.source != "hit")
    unexplained = {name: n for name, n in degraded.items() if name not in evidence.sources}
    # On a busy machine the cache may answer late. Nothing else may happen without a fault.
    late = unexplained.pop("unavailable", 0)
    broken = [
        f"{n} answers are {name} without a fault that explains it"
        for name, n in unexplained.items()
    ]
    if late > max(TOLERATED_SHARE * len(known), TOLERATED):
        broken.append(
            f"{late} of {len(known)} answers are unavailable without a fault that explains it"
        )
    return broken
