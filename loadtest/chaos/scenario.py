"""A scenario: one round of faults, how often it is played, and what its faults may cause."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from loadtest.chaos.environment import Environment


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble.

    Attributes:
        name: on the command line.
        about: one line for `--list`.
        run_round: one round; the service's memory is compared after the first round and after the last.
        sources: degraded sources that known users may be answered from.
        required: those of them that some answers have to come from, or the faults were none.
        rounds: in a whole run.
        quick_rounds: in a quick one.
        rate_per_s: of the steady load.
        settings: variables of the service.
        with_proxy: between service and cache.
    """

    name: str
    about: str
    run_round: Callable[[Environment], Awaitable[None]]
    sources: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    rounds: int = 4
    quick_rounds: int = 1
    rate_per_s: float = 30.0
    settings: Mapping[str, str] = field(default_factory=dict)
    with_proxy: bool = False
