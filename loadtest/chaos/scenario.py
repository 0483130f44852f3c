"""A scenario: one round of faults, the number of rounds, and the degraded answers that its faults may cause."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from loadtest.chaos.environment import Environment


@dataclass(frozen=True)
class Scenario:
    """One kind of fault.

    Attributes:
        name: on the command line.
        summary: description, one line for `--list`.
        run_round: one round; the service's memory is compared after the first rounds and after the last.
        sources: degraded sources that known users may be answered from.
        required: sources that some answers must come from; otherwise the faults had no effect.
        rounds: number of rounds of a whole run.
        quick_rounds: number of rounds of a quick run.
        rate_per_s: requests per second of the steady load.
        settings: environment variables of the service.
        warm_up: number of samples of the memory that are ignored, at the beginning.
        with_proxy: put a proxy between service and cache.
    """

    name: str
    summary: str
    run_round: Callable[[Environment], Awaitable[None]]
    sources: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    rounds: int = 4
    quick_rounds: int = 1
    rate_per_s: float = 30.0
    settings: Mapping[str, str] = field(default_factory=dict)
    warm_up: int = 0
    with_proxy: bool = False
