"""The scenarios: how much load, for how long, and how slow the 99th percentile may be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One load. Either `users` or `rate_per_s` is set: it says which loop.

    Attributes:
        name: of its files under `var/load/`.
        duration_s: seconds of load.
        p99_ms: the run fails above this.
        users: closed loop: each sends its next request when the last one is answered. Finds the throughput.
        rate_per_s: open loop: requests leave on a schedule whether or not earlier ones are answered. Finds the
            latency that callers see at that rate.
    """

    name: str
    duration_s: float
    p99_ms: float
    users: int | None = None
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        if (self.users is None) == (self.rate_per_s is None):
            raise ValueError(f"scenario {self.name!r}: set either users or rate_per_s")


# Limits are for two cores that the service and the load generator share.
SCENARIOS = (
    Scenario("closed", duration_s=20, p99_ms=100, users=4),
    Scenario("open", duration_s=20, p99_ms=50, rate_per_s=50),
)
