"""Live requests: a few clients that send requests without a break, and all their answers."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tests.e2e.deadline import wait_until

CLIENTS = 2
PAUSE_S = 0.05
"""Pause between two requests of a client, so that requests do not overload the machine before the fault."""
MAX_ANSWERS = 20_000
TIMEOUT_S = 30.0
UNKNOWN_ITEM = "no-such-item"


@dataclass(frozen=True, eq=False)
class Ask:
    """One score request."""

    user: str
    candidates: Sequence[str]
    recent: Sequence[str] | None
    context: dict[str, str]

    def body(self) -> dict[str, Any]:
        body = {
            "user_id": self.user, "candidates": list(self.candidates), "context": self.context,
        }  # fmt: skip
        return body if self.recent is None else body | {"recent": list(self.recent)}


def make_asks(users: Sequence[str], items: Sequence[str], num_asks: int, seed: int) -> list[Ask]:
    """Requests for the users in turn: short and long slates, with and without recents and context."""
    rng = random.Random(seed)
    pool = [*items, UNKNOWN_ITEM]
    return [
        Ask(
            users[place % len(users)],
            rng.choices(pool, k=rng.choice([1, 2, 7, 30])),
            rng.choices(pool, k=rng.choice([0, 1, 5, 20])) if rng.random() < 0.5 else None,
            {"hour": str(rng.randrange(24))} if rng.random() < 0.5 else {},
        )
        for place in range(num_asks)
    ]


@dataclass(frozen=True, eq=False)
class Answer:
    """What came back; status 0: nothing, and `body` says why."""

    ask: Ask
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def generation(self) -> str | None:
        return self.body.get("generation")

    @property
    def source(self) -> str | None:
        """How the user's state was found."""
        state = self.body.get("state")
        return state and state["source"]


class Traffic:
    """Clients that ask in a loop as long as the block lasts."""

    def __init__(self, url: str, asks: Sequence[Ask]) -> None:
        self.answers: list[Answer] = []
        self._url = url
        self._asks = asks
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(first,), name=f"client-{first}")
            for first in range(CLIENTS)
        ]

    def _ask(self, first: int) -> None:
        at = first
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            while not self._stop.wait(PAUSE_S) and len(self.answers) < MAX_ANSWERS:
                self.answers.append(_score(client, self._asks[at % len(self._asks)]))
                at += CLIENTS

    def wait_for(self, count: int, is_meant: Callable[[Answer], bool], what: str) -> None:
        """Wait until `count` of the answers that come from now on are meant."""
        start = len(self.answers)

        def has_seen() -> bool:
            new = self.answers[start:]
            lost = [answer.body for answer in new if answer.status == 0]
            assert not lost, f"the service is gone: {lost[0]}"
            return sum(map(is_meant, new)) >= count

        wait_until(has_seen, what)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _score(client: httpx.Client, ask: Ask) -> Answer:
    try:
        response = client.post("/v1/score", json=ask.body())
    except httpx.TransportError as error:
        return Answer(ask, 0, {"error": repr(error)})
    return Answer(ask, response.status_code, response.json(), dict(response.headers))
