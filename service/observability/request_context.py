"""What is known of one request while it is answered: for its log lines, its metrics, its trace and what comes after it.

A door (the HTTP middleware, or another) makes one and sets `CURRENT`; the pipeline fills in what it finds. Nothing here
knows HTTP. Threads of an executor do not see it, and need not: they log nothing.
"""

import secrets
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

MAX_REQUEST_ID = 128
"""Characters of a request id that is taken from a stranger."""


@dataclass(slots=True)
class RequestContext:
    """One request.

    Attributes:
        request_id: the caller's, or made here.
        trace_id: 32 hex digits of the trace that the caller, or this service, put it in; None: in none.
        model: the published model that was asked; empty until one is picked, never a stranger's word.
        generation: name of the generation that answered; empty until then.
        user_id: whom it is about; only for logs, and only where a setting wants it.
        source: how the user's state was found; empty until then.
        degraded: whether the answer says so of itself.
        stages: stage -> seconds, in order; empty until the answer is there.
        started: clock of `perf_counter` when the request came; `asked` when it was read; `scored` when the scores
            were there; `answered` when the answer's bytes were. 0: not yet.
        later: work to do once the answer is sent.
    """

    request_id: str
    trace_id: str | None = None
    model: str = ""
    generation: str = ""
    user_id: str = ""
    source: str = ""
    degraded: bool = False
    stages: Mapping[str, float] = field(default_factory=dict)
    started: float = field(default_factory=perf_counter)
    asked: float = 0.0
    scored: float = 0.0
    answered: float = 0.0
    later: list[Callable[[], None]] = field(default_factory=list)

    def ask(self, user_id: str) -> None:
        """Note that the request is read, and whom it is about."""
        self.asked = perf_counter()
        self.user_id = user_id

    def answer(
        self, generation: str, source: str, is_degraded: bool, stages: Mapping[str, float]
    ) -> None:
        """Note that the scores are there."""
        self.scored = perf_counter()
        self.generation, self.source, self.degraded = generation, source, is_degraded
        self.stages = stages


CURRENT: ContextVar[RequestContext | None] = ContextVar("absorb_request", default=None)
"""The request that this task answers; None outside of one."""


def request_id_from(offered: bytes | None) -> str:
    """The caller's id if it is 1 to 128 visible ASCII characters, else a new one."""
    if offered and len(offered) <= MAX_REQUEST_ID and offered.isascii():
        text = offered.decode("ascii")
        if text.isprintable() and " " not in text:
            return text
    return secrets.token_hex(16)
