"""From what happened to a verdict: figures, and the rules that were broken, one sentence each.

A request is lost if it was sent to a process that lives and got no whole answer. While a process is killed (from the
signal until it is ready again) no answer is the only answer; while it drains, what was sent before the signal is
answered, and what came after may be refused.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.chaos.memory import growth, leak
from loadtest.chaos.outcome import Outcome

NOT_NOW = frozenset({429, 503, 504})
"""Refusals of a request that is itself in order: too many at once, not ready, too late."""
RECOVERY_LIMIT_S = 20.0
"""Seconds from the end of a fault to the first hit; a killed service has to start in them."""
DRAIN_RACE_S = 0.1
"""A request sent so shortly before the signal may meet a listener that is already closing."""
TOLERATED_SHARE, TOLERATED = 0.02, 5
"""Of requests, or so many, that a busy machine may answer degraded outside of any fault: the cache came late."""


@dataclass(frozen=True)
class Fault:
    """Something that was broken on purpose, on the monotonic clock.

    Attributes:
        recovered_s: the first hit after the end was answered; None: there was none in time.
    """

    name: str
    started_s: float
    ended_s: float
    recovered_s: float | None

    @property
    def recovery_s(self) -> float | None:
        """Seconds from the end of the fault to the first answer that was not degraded."""
        return None if self.recovered_s is None else self.recovered_s - self.ended_s


@dataclass(frozen=True)
class Downtime:
    """While no process, or none that takes requests, was there."""

    started_s: float
    ended_s: float
    is_kill: bool

    def excuses(self, one: Outcome) -> bool:
        """That this request got no answer."""
        if one.failure == "hung" or one.sent_s > self.ended_s or one.ended_s < self.started_s:
            return False
        return self.is_kill or one.sent_s >= self.started_s - DRAIN_RACE_S


@dataclass(frozen=True)
class Evidence:
    """What one scenario left.

    Attributes:
        scenario: its name.
        sources: degraded sources that its faults may cause.
        outcomes: every request of the steady load.
        generations: name -> artifact id of every generation that was published.
        faults: in order.
        downtimes: likewise.
        memory: bytes of the service after each round, of the process that lived last.
        abuses: "what was sent: what came" -> times, for requests that were not the steady load's.
        problems: what else was found wrong: by the scenario, in the counters, in the log.
        required: sources that some answers have to come from, or the faults were none.
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
    """One scenario in numbers, and the rules that it broke."""

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
    """The figures and the verdict."""
    outcomes = evidence.outcomes
    unanswered = [one for one in outcomes if one.failure]
    lost = [one for one in unanswered if not _is_excused(one, evidence.downtimes)]
    mixed = [one for one in outcomes if _is_mixed(one, evidence.generations)]
    recovered = [f.recovery_s for f in evidence.faults if f.recovery_s is not None]
    memory = evidence.memory
    return Figures(
        evidence.scenario,
        len(outcomes),
        len(evidence.faults),
        dict(Counter(str(one.status) for one in outcomes if one.status)),
        dict(Counter(one.source for one in outcomes if one.source)),
        len(lost),
        len(mixed),
        sum(one.problem.startswith("wrong") for one in outcomes),
        len(unanswered) - len(lost),
        sum(one.retried for one in outcomes),
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
    if not any(one.is_hit for one in outcomes):
        broken.append("no request was answered from a user's record")
    if lost:
        broken.append(f"{len(lost)} requests lost, the first: {lost[0].failure}")
    if mixed:
        broken.append(f"{len(mixed)} answers mix generations, the first: {_shown(mixed[0])}")
    for kind in ("wrong", "form"):
        found = [one.problem for one in outcomes if one.problem.startswith(kind)]
        if found:
            broken.append(f"{len(found)} answers are {kind}, the first: {found[0]}")
    codes = Counter(one.status for one in outcomes if one.status not in {0, 200} | NOT_NOW)
    broken += [f"status {code} for {times} good requests" for code, times in codes.items()]
    broken += _degraded_for_nothing(evidence)
    unfelt = evidence.required - {one.source for one in outcomes if one.is_known}
    broken += [f"no answer was {name}: nobody required the fault" for name in sorted(unfelt)]
    broken += [f"no hit after {one.name}" for one in evidence.faults if one.recovery_s is None]
    slow = [one for one in evidence.faults if (one.recovery_s or 0) > RECOVERY_LIMIT_S]
    broken += [f"{one.recovery_s:.1f} s until the first hit after {one.name}" for one in slow]
    broken += [problem for problem in (leak(evidence.memory),) if problem]
    return broken


def _is_excused(one: Outcome, downtimes: Sequence[Downtime]) -> bool:
    return any(downtime.excuses(one) for downtime in downtimes)


def _is_mixed(one: Outcome, generations: Mapping[str, str]) -> bool:
    if one.status != 200 or not one.generation or one.problem.startswith("wrong"):
        return False
    return one.problem.startswith("mixed") or generations.get(one.generation) != one.artifact_id


def _shown(one: Outcome) -> str:
    return one.problem or f"{one.generation} by {one.artifact_id}"


def _degraded_for_nothing(evidence: Evidence) -> list[str]:
    """Known users that were answered degraded though nothing that was broken explains it."""
    known = [one for one in evidence.outcomes if one.is_known and one.status == 200]
    odd = Counter(one.source for one in known if one.source != "hit")
    unexplained = {name: n for name, n in odd.items() if name not in evidence.sources}
    # A busy machine may be late with the cache's answer; nothing else may happen by itself.
    late = unexplained.pop("unavailable", 0)
    broken = [f"{n} answers are {name}, and nothing broke that" for name, n in unexplained.items()]
    if late > max(TOLERATED_SHARE * len(known), TOLERATED):
        broken.append(f"{late} of {len(known)} answers are unavailable, and nothing broke that")
    return broken
