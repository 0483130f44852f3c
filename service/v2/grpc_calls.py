"""One gRPC call, from its headers to its status: key, message within its limits, log, metrics, error.

The order is that of HTTP: the key is checked before the message is read, and every call is counted however it ends.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from models.contract.errors import AbsorbError, RequestError, Unquoted
from service.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    ClientGoneError,
    DeadlineError,
    OverloadedError,
    UnknownCallError,
)
from service.observability.request_context import CURRENT
from service.observability.request_log import REQUEST_ID, RequestLog
from service.status import grpc_code_of, retry_after_s, status_of, text_of
from service.transport.auth import Access, Role
from service.transport.body import BodyLimit
from service.v2.grpc_transport import SERVICE, Context

METHOD = "GRPC"
"""Method in metrics, logs and spans."""
UNMATCHED = "unmatched"
"""Route of calls that are not known, as for HTTP."""
MAX_OPEN = 4096
"""Calls that may be open at once, most of them without their message; probes may exceed it."""
CANCELLED_S = 0.1
"""Seconds in which gRPC cancels a call that ended without a message, unless the client itself ended it so."""
LATE_S = 0.01
"""A cancellation this close to the deadline is the deadline: client and server do not start their clocks at once."""

Answer = Callable[[bytes, Context], Awaitable[bytes]]
Metadata = Sequence[tuple[str, str | bytes]]

log = logging.getLogger(__name__)


class Calls:
    """Answers calls, and refuses those that are not known."""

    def __init__(self, request_log: RequestLog, access: Access, body: BodyLimit) -> None:
        """Store the dependencies.

        Args:
            request_log: begins and finishes requests; the same as for HTTP.
            access: checks keys.
            body: longest message, and seconds in which it has to arrive.
        """
        self._request_log = request_log
        self._access = access
        self._body = body
        self._num_open = 0

    def handler(
        self, name: str, role: Role | None, answer: Answer
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Make the handler of a call with one message.

        Args:
            name: name of the call.
            role: role that it needs; None: it needs no key.
            answer: gets the message's bytes and gives those of the response.
        """
        route = f"/{SERVICE}/{name}"

        async def read_and_answer(context: Context) -> bytes:
            return await answer(await self._message(context), context)

        async def call(_: object, context: Context) -> bytes:
            return await self._serve(route, role, read_and_answer, context)

        # A stream of messages, of which the first is read: gRPC itself would wait for a single one without end, and
        # answer INTERNAL for one that cannot be parsed. Clients see no difference.
        return grpc.stream_unary_rpc_method_handler(call)

    async def refuse(self, context: Context) -> None:
        """End a call that is not known."""

        async def unknown(_: Context) -> bytes:
            raise UnknownCallError(SERVICE)

        await self._serve(UNMATCHED, Role.SCORING, unknown, context)

    async def _serve(
        self,
        route: str,
        role: Role | None,
        answer: Callable[[Context], Awaitable[bytes]],
        context: Context,
    ) -> bytes:
        sent = list(context.invocation_metadata() or ())
        headers = [(_bytes(key), _bytes(value)) for key, value in sent]
        request, span = self._request_log.begin(route, headers)
        CURRENT.set(request)  # each call runs in its own task, and so in its own context
        identity = ((REQUEST_ID.decode(), request.request_id),)
        context.set_trailing_metadata(identity)
        error: Exception | None = None
        response = b""
        self._num_open += 1
        try:
            self._check(role, sent)
            response = await answer(context)
        except Exception as caught:
            error = caught
        except asyncio.CancelledError:
            status = status_of(_reason(context))
            self._request_log.finish((route, METHOD), request, span, status)
            raise
        finally:
            self._num_open -= 1
        status = _status(route, error)
        request.answered = time.perf_counter()
        # After the response was sent.
        finish = self._request_log.finish
        asyncio.get_running_loop().call_soon(finish, (route, METHOD), request, span, status)
        if error is not None:
            code = grpc.StatusCode[grpc_code_of(error)]
            await context.abort(code, text_of(error), (*identity, *_retry(error)))
        return response

    def _check(self, role: Role | None, sent: Metadata) -> None:
        """Return if the call has the key that it needs, and there is room for it.

        Raises:
            AccessError: as `Access.check` does.
            OverloadedError: too many calls are open.
        """
        if role is None:
            return
        # The first of several keys counts, as in HTTP.
        headers = {key: value for key, value in reversed(sent) if isinstance(value, str)}
        self._access.check(role, headers)
        if self._num_open > MAX_OPEN:
            raise OverloadedError(f"{self._num_open} calls are open")

    async def _message(self, context: Context) -> bytes:
        """The call's message.

        Raises:
            BodyTimeoutError: its end did not arrive in time.
            BodyTooLargeError: it is longer than the limit, as sent or decompressed.
            RequestError: the client ended the call without one.
            CancelledError: the client left, its deadline passed, or gRPC refused the message.
        """
        try:
            async with asyncio.timeout(self._body.seconds):
                raw = await context.read()
        except TimeoutError as error:
            raise BodyTimeoutError(self._body.seconds) from error
        if raw is grpc.aio.EOF:
            await asyncio.sleep(CANCELLED_S)
            raise RequestError("message", Unquoted("none"), "one")
        if len(raw) > self._body.num_bytes:
            raise BodyTooLargeError(self._body.num_bytes)
        return bytes(raw)


def _reason(context: Context) -> AbsorbError:
    """Why a call was cancelled. gRPC does not tell a client that left from a message that it refused itself."""
    remaining_s = context.time_remaining()
    is_late = remaining_s is not None and remaining_s < LATE_S
    return DeadlineError() if is_late else ClientGoneError()


def _status(route: str, error: Exception | None) -> int:
    """HTTP status of a call's end; logs it if it is the server's fault."""
    if error is None:
        return 200
    if not isinstance(error, AbsorbError):
        log.error("request failed", extra={"path": route}, exc_info=error)
        return 500
    status = status_of(error)
    if status >= 500:
        log.warning("request refused", extra={"status": status, "error": str(error)})
    return status


def _retry(error: Exception) -> tuple[tuple[str, str], ...]:
    """Metadata that says when to try again: as HTTP says it, and as gRPC's clients with a retry policy read it."""
    seconds = retry_after_s(error)
    if seconds is None:
        return ()
    return ("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(1000 * seconds))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
