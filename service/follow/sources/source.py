"""The interface of all sources of events. Every source delivers at least once: states do not care how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.live.event import Event


@dataclass(frozen=True)
class Delivery:
    """One message of a source.

    Attributes:
        position: where it stands, for logs and dead letters.
        raw: its bytes.
        event: the event; None if the bytes are none.
        problem: why they are none; empty if they are one.
    """

    position: str
    raw: bytes
    event: Event | None
    problem: str = ""


class Source(Protocol):
    """Delivers events to one worker. Several workers share the events of a source.

    What was read and not acknowledged comes again, to this worker or another one. Used by one thread.

    Attributes:
        name: names the source in logs and metrics.
        counts_all: whether `waiting` counts the messages for all workers, not only those for this one.
    """

    name: str
    counts_all: bool

    def read(self, max_events: int, wait_s: float) -> Sequence[Delivery]:
        """The next messages, at most `max_events`; waits for the first one, at most `wait_s` seconds.

        Raises:
            SourceUnavailableError: the source does not answer. What it delivers later is complete.
        """

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Note that messages are done: they do not come again, unless this note is lost.

        Raises:
            SourceUnavailableError: the source does not answer. The messages may come again.
        """

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Keep a message that cannot be folded, with the reason, where people look for it. Does not acknowledge it.

        Raises:
            SourceUnavailableError: the source does not answer.
        """

    def waiting(self) -> int | None:
        """Messages that are not acknowledged yet, as `counts_all` says; None: the source cannot tell."""

    def has_gap(self) -> bool:
        """Whether messages may be lost, such as after a stream was trimmed, since the last call of this method."""

    def close(self) -> None:
        """Leave the group and close the connections."""
