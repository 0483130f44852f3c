"""How far the workers are: what a worker writes to `FOLLOW_KEY` every few seconds, and services read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from models.contract.strict_json import read_json

TTL_S = 15
"""A status that is not renewed disappears: no worker runs."""


@dataclass(frozen=True)
class FollowStatus:
    """What the worker that wrote last knows.

    Attributes:
        at_s: epoch second of the status.
        position: place of the last folded event in its source; empty before the first.
        lag_s: seconds from the arrival of the oldest event of the last batch until its states were written; while
            events wait, at least their waiting time so far.
        backlog: events that wait in the source; None: the source cannot tell.
        events: events folded since the worker's start.
        behind: model -> users whose records are still being caught up; 0: complete.
    """

    at_s: int
    position: str = ""
    lag_s: float = 0.0
    backlog: int | None = None
    events: int = 0
    behind: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The status as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "FollowStatus":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are no status.
        """
        try:
            status = cls(**read_json(raw))
        except TypeError as error:
            raise ValueError(f"status of the worker: {error}") from error
        is_right = type(status.at_s) is int and isinstance(status.lag_s, int | float)
        if not is_right or not isinstance(status.behind, dict):
            raise ValueError(f"status of the worker: got {raw[:100]!r}")
        return status
