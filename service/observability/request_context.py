"""Facts about one request, for its log lines, metrics, trace and the work after its answer.

The HTTP middleware or the gRPC server creates the context and sets `CURRENT`; the pipeline fills it in. It is
independent of the protocol. Executor threads do not see it; they do not log.
"""

import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

MAX_REQUEST_ID = 128
"""Longest request id in characters that is taken from a client."""


@dataclass(slots=True)
class RequestContext:
    """One request.

    Attributes:
        request_id: sent by the client, or generated.
        trace_id: 32 hex digits of the trace started by the client or by this service; None: the request is not traced.
        model: name of the chosen model; empty until one is chosen. Never text from the client.
        generation: name of the generation that scored; empty before.
        users: raw ids of the users that the request names, as they are scored.
        source: result of the user's lookup; empty before.
        degraded: whether the answer is marked as degraded.
        stages: stage -> seconds, in order; empty before the scores are ready.
        started: moment of `perf_counter` at which the request arrived.
        parsed: moment at which the request was parsed; 0: not yet.
        scored: moment at which the scores were ready; 0: not yet.
        answered: moment at which the answer was encoded; 0: not yet.
        ended: moment at which the answer was given to the connection; 0: not yet.
        later: functions to call after the answer is sent.
    """

    request_id: str
    trace_id: str | None = None
    model: str = ""
    generation: str = ""
    users: list[str] = field(default_factory=list)
    source: str = ""
    degraded: bool = False
    stages: Mapping[str, float] = field(default_factory=dict)
    started: float = field(default_factory=perf_counter)
    parsed: float = 0.0
    scored: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    later: list[Callable[[], None]] = field(default_factory=list)

    @property
    def user_id(self) -> str:
        """Raw id of the user, of several the last one; empty: none is known. Logged only if a setting says so."""
        return self.users[-1] if self.users else ""

    def ask(self, user_id: str) -> None:
        """Note that the request is parsed, and its user."""
        self.parsed = perf_counter()
        self.users.append(user_id)

    def answer(
        self, generation: str, source: str, is_degraded: bool, stages: Mapping[str, float]
    ) -> None:
        """Note that the scores are ready."""
        self.scored = perf_counter()
        self.generation, self.source, self.degraded = generation, source, is_degraded
        self.stages = stages


CURRENT: ContextVar[RequestContext | None] = ContextVar("absorb_request", default=None)
"""The request that the current task answers; None outside a request."""

_draw = random.Random().getrandbits
"""Ids are unique, not secret: the system's own random numbers cost a system call each."""


def request_id_from(offered: bytes | None) -> str:
    """The client's request id if it is 1 to 128 visible ASCII characters, else a generated one."""
    if offered and len(offered) <= MAX_REQUEST_ID and offered.isascii():
        text = offered.decode("ascii")
        if text.isprintable() and " " not in text:
            return text
    return f"{_draw(128):032x}"
