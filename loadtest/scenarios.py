"""The load scenarios: load, duration, and limit of the 99th percentile."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One scenario. Either `users` (closed loop) or `rate_per_s` (open loop) is set.

    Attributes:
        name: name of its files under `var/load/`.
        duration_s: duration in seconds.
        p99_ms: the run fails if its p99 is above this.
        users: number of users, each of which sends its next request when the previous one is answered: measures
            throughput.
        rate_per_s: requests per second on a schedule, whether or not earlier ones are answered: measures the latency
            that callers see at that rate.
    """

    name: str
    duration_s: float
    p99_ms: float
    users: int | None = None
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        if (self.users is None) == (self.rate_per_s is None):
            raise ValueError(
                f"scenario {self.name!r}: got both or neither, expected either users or rate_per_s"
            )


# The limits are for two cores shared by the service and the load generator.
SCENARIOS = (
    Scenario("closed", duration_s=20, p99_ms=100, users=4),
    Scenario("open", duration_s=20, p99_ms=50, rate_per_s=50),
)
