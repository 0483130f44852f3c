"""Faults of gRPC clients: silent connections, calls without a message, frames that no client sends."""

import asyncio
from collections.abc import Sequence

from loadtest.chaos.environment import Environment
from loadtest.chaos.faults.client import ANSWER_LIMIT_S, check_freed
from loadtest.chaos.http2 import (
    CANCEL,
    PREFACE,
    RST_STREAM,
    Answer,
    Peer,
    data,
    frame,
    head,
    message,
)
from loadtest.chaos.scenario import Scenario

SERVICE = b"/inference.GRPCInferenceService/"
INFER, LIVE = SERVICE + b"ModelInfer", SERVICE + b"ServerLive"
OK, INVALID, LATE, UNIMPLEMENTED = 0, 3, 4, 12
"""Codes of gRPC."""
SILENT = 50
HALF_OPEN = 20
CALLS_OF_EACH = 10
RESET = 300
HALF = message(b"x" * 100)[:50]
SILENCES = (b"", PREFACE[:7], PREFACE)
"""What a connection sends before it is silent."""


async def half_open(environment: Environment) -> None:
    """Connections are silent, calls wait for their message, are reset, or are none; probes are answered meanwhile."""
    port = environment.service.other_port()
    before = environment.service.open_files()
    opened = []
    async with environment.fault("half-open calls"):
        for number in range(SILENT):
            peer = await Peer.open(port, greets=False)
            await peer.send(SILENCES[number % len(SILENCES)])
            opened.append(peer)
        calls = [_call(port, CALLS_OF_EACH, HALF if at % 2 else b"") for at in range(HALF_OPEN)]
        answers = await asyncio.gather(*calls)
        _check(environment, "a call without its message", [a for c in answers for a in c], LATE)
        await _reset(port)
        for name, parts, code in _wrong_calls():
            _check(environment, name, await _answers(port, parts, 1), code)
        live = head(LIVE) + data(message(b""))
        _check(environment, "gRPC's probe", await _answers(port, live, 1), OK)
    # The silent connections are still open at this end: the service closes them.
    await check_freed(environment, before)
    for peer in opened:
        peer.abort()


async def _call(port: int, number: int, part: bytes) -> list[Answer]:
    """Begin calls on one connection, and wait for the ends of all."""
    streams = range(1, 2 * number, 2)
    parts = b"".join(head(INFER, stream=stream) for stream in streams)
    if part:
        parts += b"".join(data(part, stream, ends=False) for stream in streams)
    return await _answers(port, parts, number)


async def _answers(port: int, parts: bytes, number: int) -> list[Answer]:
    """Ends of the calls of one connection; those that do not end in time have no code."""
    peer = await Peer.open(port)
    await peer.send(parts)
    ended: list[Answer] = []
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            ended += (await peer.answers(number)).values()
    except TimeoutError:
        pass
    finally:
        peer.abort()
    return [*ended, *[Answer(None, "", {})] * (number - len(ended))]


async def _reset(port: int) -> None:
    """Begin calls and reset each at once."""
    peer = await Peer.open(port)
    for stream in range(1, 2 * RESET, 2):
        await peer.send(head(INFER, stream=stream) + frame(RST_STREAM, 0, stream, CANCEL))
    peer.abort()


def _wrong_calls() -> Sequence[tuple[str, bytes, int]]:
    return (
        ("a path that is no text", head(b"/\xff/\xfe") + data(b""), UNIMPLEMENTED),
        ("an unknown call", head(SERVICE + b"No") + data(message(b"")), UNIMPLEMENTED),
        ("no message", head(INFER) + data(b""), INVALID),
        ("no protobuf", head(INFER) + data(message(b"\xff" * 9)), INVALID),
    )


def _check(environment: Environment, name: str, answers: Sequence[Answer], code: int) -> None:
    for answer in answers:
        environment.abuses[f"{name}: {answer.code}"] += 1
    wrong = [answer.code for answer in answers if answer.code != code]
    if wrong:
        environment.problems.append(f"{name}: got codes {wrong}, expected {code}")


GRPC_FAULTS = (
    Scenario(
        "grpc-half-open",
        "silent connections, calls without a message, resets, calls that are none",
        half_open,
        # One round takes the 10 s after which a silent connection is closed.
        rounds=2,
        settings={"ABSORB_GRPC_PORT": "0", "ABSORB_BODY_TIMEOUT_S": "0.5"},
    ),
)
