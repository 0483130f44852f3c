"""The short way between the middleware and a connection, beside ASGI's messages, which stay for all that is unusual.

Most requests have arrived whole when they are looked at, and are answered at once and whole. For those an `Exchange`
takes the body and gives the answer without messages: uvicorn checks each header of each answer by two regular
expressions, and all its functions together run with cold caches after a score.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

KEY = "absorb"
"""Name of the ASGI extension that is the request's `Exchange`: `scope.get("extensions", NONE).get(KEY)`, which is None
under another server than ours, and in tests without one."""
NONE: Mapping[str, Any] = {}
RawHeaders = list[tuple[bytes, bytes]]


class Arrivals:
    """Counts the requests that have arrived over HTTP and are not answered, also those whose code has not begun."""

    def __init__(self) -> None:
        self._tasks: Collection[object] = ()

    def watch(self, tasks: Collection[object]) -> None:
        """Count from now on.

        Args:
            tasks: the server's; a request has a task from its head on.
        """
        self._tasks = tasks

    def number(self) -> int:
        """Such requests; 0 if there is no server."""
        return len(self._tasks)


class DefaultHeaders:
    """The headers of every answer as bytes. Uvicorn makes their list anew each second, with the date."""

    def __init__(self) -> None:
        self._of: RawHeaders = []
        self._raw = b""

    def joined(self, headers: RawHeaders) -> bytes:
        """The headers as HTTP/1.1 has them, each with its end of line."""
        if headers is not self._of:
            self._raw = join(headers)
            self._of = headers
        return self._raw


class Exchange:
    """One request and its answer.

    Attributes:
        later: calls a function once the answer is on its way.
    """

    __slots__ = ("_cycle", "_defaults", "later")

    def __init__(
        self,
        cycle: RequestResponseCycle,
        defaults: DefaultHeaders,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        """Store the connection's side.

        Args:
            cycle: uvicorn's state of the request.
            defaults: joins the headers of every answer.
            later: calls a function in the next turn of the event loop: what is written before is sent by then.
        """
        self._cycle = cycle
        self._defaults = defaults
        self.later = later

    def take_body(self) -> bytes | None:
        """The body; None if it has not arrived whole, or its client waits for a word: then it must be received."""
        cycle = self._cycle
        if (
            cycle.more_body
            or cycle.waiting_for_100_continue
            or cycle.disconnected
            or cycle.response_complete
        ):
            return None
        cycle.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def answer(self, status: int, headers: RawHeaders, body: bytes) -> bool:
        """Answer the request.

        Args:
            status: HTTP status of an answer with a body.
            headers: its headers, content-length among them, connection not. They are not checked.
            body: the body.

        Returns:
            False: nothing was done, since the client does not read, or wants no body; the answer must be sent as ASGI
                says.
        """
        cycle = self._cycle
        is_usual = not (cycle.flow.write_paused or cycle.disconnected or cycle.response_started)
        if not is_usual or cycle.scope["method"] == "HEAD":
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        defaults = self._defaults.joined(cycle.default_headers)
        cycle.transport.write(b"".join((STATUS_LINE[status], defaults, join(headers), end, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


def join(headers: RawHeaders) -> bytes:
    """Headers as HTTP/1.1 has them, each with its end of line."""
    return b"".join([part for name, value in headers for part in (name, b": ", value, b"\r\n")])
