"""Limits of gRPC calls, over sockets: each call that reaches the limit gets its code, and is counted."""

import asyncio
import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from loadtest.chaos.http2 import (
    CANCEL,
    RST_STREAM,
    SETTINGS,
    Answer,
    Peer,
    data,
    frame,
    head,
    message,
)
from service.tools.keys import new_key
from tests.service.toy import Toy
from tests.service.v2.grpc_door import CALL, Door, open_door
from tests.service.v2.test_grpc_server import message as two_scores
from tests.service.v2.test_grpc_server import refused

pytestmark = pytest.mark.anyio
MAX_BYTES = 100_000
BODY_S = 0.5
INFER = f"{CALL}ModelInfer"
PATH = INFER.encode()
OK, CANCELLED, INVALID, LATE, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, NO_KEY = (
    0,
    1,
    3,
    4,
    8,
    12,
    13,
    14,
    16,
)  # codes of gRPC
LIMIT_S = 20.0
KEY, KEY_HASH = new_key()
NO_WINDOW = b"\x00\x04\x00\x00\x00\x00"
"""SETTINGS_INITIAL_WINDOW_SIZE = 0."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    settings = {"max_body_bytes": str(MAX_BYTES), "body_timeout_s": str(BODY_S)}
    settings |= {"max_in_flight": "4", "max_queue": "0"}
    with open_door(tmp_path_factory.mktemp("grpc"), {"toy": Toy()}, **settings) as door:
        yield door


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door that asks for a key."""
    folder = tmp_path_factory.mktemp("locked")
    with open_door(folder, {"toy": Toy()}, api_keys=KEY_HASH) as door:
        yield door


async def answer(door: Door, *parts: bytes) -> Answer:
    """Answer to the call of stream 1."""
    peer = await Peer.open(door.port)
    for part in parts:
        await peer.send(part)
    try:
        async with asyncio.timeout(LIMIT_S):
            return await peer.answer()
    finally:
        peer.abort()


def infer(**changes: Any) -> bytes:
    raw: bytes = two_scores(**changes).SerializeToString()
    return raw


async def test_a_path_that_is_no_text_leaves_the_server_running(door: Door):
    before = door.counted("unmatched").get(404, 0)
    for path in (b"/\xff\xfe/\x80", b"\xff", f"{CALL}ø".encode("latin-1")):
        got = await answer(door, head(path), data(message(b"")))
        assert (got.code, got.text.startswith("call: got an unknown one")) == (UNIMPLEMENTED, True)
        assert got.metadata["x-request-id"]
    assert door.client.is_server_live()
    assert (await answer(door, head(PATH), data(message(infer())))).code == OK
    assert door.until_counted("unmatched", 404, before + 3) == before + 3


@pytest.mark.parametrize("path", [f"{CALL}ModelStreamInfer", "/grpc.health.v1.Health/Check"])
async def test_unknown_calls_are_counted_without_their_name(path: str, door: Door):
    before = door.counted("unmatched").get(404, 0)
    got = await answer(door, head(path.encode(), (b"x-request-id", b"unknown")))
    assert (got.code, got.metadata["x-request-id"]) == (UNIMPLEMENTED, "unknown")
    assert door.until_counted("unmatched", 404, before + 1) == before + 1
    assert path not in door.metrics()


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [data(message(b"x" * 100)[:20], ends=False)],
        [data(b"", ends=False)] * 50,
    ],
    ids=["no message", "half a message", "empty frames"],
)
async def test_a_half_open_call_ends_in_time(parts: list[bytes], door: Door):
    before = door.counted(INFER).get(408, 0)
    got = await answer(door, head(PATH), *parts)
    assert (got.code, "the whole body within 0.5 s" in got.text) == (LATE, True)
    assert door.until_counted(INFER, 408, before + 1) == before + 1


async def test_a_message_that_dribbles_in_is_refused(door: Door):
    peer = await Peer.open(door.port)
    await peer.send(head(PATH))
    ending = asyncio.create_task(peer.answer())
    for byte in message(b"x" * 2000):
        await peer.send(data(bytes([byte]), ends=False))
        await asyncio.sleep(0.02)
        if ending.done():
            break
    assert (await ending).code == LATE
    peer.abort()


async def test_a_call_without_a_message_is_invalid(door: Door):
    before = door.counted(INFER).get(400, 0)
    got = await answer(door, head(PATH), data(b""))
    assert (got.code, got.text) == (INVALID, "message: got none, expected one")
    assert door.until_counted(INFER, 400, before + 1) == before + 1


async def test_a_message_above_the_limit_is_refused_and_counted(door: Door):
    before = door.counted(INFER).get(413, 0)
    for how in ({}, {"compression": grpc.Compression.Gzip}):
        code, text = refused(door, two_scores(id="x" * (MAX_BYTES + 1)), **how)
        assert (code, text) == (
            "RESOURCE_EXHAUSTED",
            f"body: got more than {MAX_BYTES} bytes, expected at most {MAX_BYTES} bytes",
        )
    assert door.until_counted(INFER, 413, before + 2) == before + 2


BOMB = gzip.compress(b"x" * (50 * MAX_BYTES))
GZIP = (b"grpc-encoding", b"gzip")
FAR_TOO_LONG = {
    "declared": [head(PATH), data(message(b"", length=2**32 - 1), ends=False)],
    "a bomb": [head(PATH, GZIP), data(message(BOMB, compressed=True))],
}


@pytest.mark.parametrize("name", FAR_TOO_LONG)
async def test_far_too_long_a_message_is_refused_before_it_is_read(name: str, door: Door):
    before = door.counted(INFER).get(499, 0)
    got = await answer(door, *FAR_TOO_LONG[name])
    assert (got.code, "larger than max" in got.text) == (EXHAUSTED, True)
    assert door.until_counted(INFER, 499, before + 1) == before + 1


async def test_a_client_that_leaves_is_counted(door: Door):
    before = door.counted(INFER).get(499, 0)
    for parts in ([], [data(message(b"x" * 100)[:20], ends=False)]):
        peer = await Peer.open(door.port)
        await peer.send(head(PATH) + b"".join(parts))
        await asyncio.sleep(0.1)
        await peer.send(frame(RST_STREAM, 0, 1, CANCEL))
        peer.abort()
    assert door.until_counted(INFER, 499, before + 2) == before + 2


async def test_a_client_that_leaves_before_the_answer_is_sent_is_not_an_error(door: Door):
    """The client takes no byte of an answer, so that each waits to be sent until the connection is reset."""
    before = door.counted(INFER).get(200, 0)
    peer = await Peer.open(door.port)
    await peer.send(frame(SETTINGS, 0, 0, NO_WINDOW))
    for stream in (1, 3, 5):
        await peer.send(head(PATH, stream=stream) + data(message(infer()), stream))
    await asyncio.sleep(0.5)
    peer.abort()
    await asyncio.sleep(0.5)
    assert sum(door.counted(INFER).values()) > before
    assert "ExecuteBatchError" not in door.log.read_text()


async def test_a_deadline_is_counted_as_one(door: Door):
    before = door.counted(INFER).get(504, 0)
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(_half_open, door, 0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    got = await answer(door, head(PATH, (b"grpc-timeout", b"1n")), data(message(infer())))
    assert got.code == LATE
    assert door.until_counted(INFER, 504, before + 2) == before + 2


def _half_open(door: Door, timeout_s: float) -> None:
    """A call whose message never comes, by gRPC's own client."""
    forever = threading.Event()

    def messages() -> Iterator[bytes]:
        forever.wait(10)
        yield b""

    try:
        ask: Any = door.channel.stream_unary(INFER)
        ask(messages(), timeout=timeout_s)
    finally:
        forever.set()


@pytest.mark.parametrize("timeout", [b"1000000000H", b"99999999H", b"5S"])
async def test_an_absurd_deadline_is_shortened(timeout: bytes, door: Door):
    got = await answer(door, head(PATH, (b"grpc-timeout", timeout)), data(message(infer())))
    assert got.code == OK


@pytest.mark.parametrize("timeout", [b"-5S", b"-1n", b"abc", b"5", b"S", b"1e9S"])
async def test_a_malformed_deadline_is_refused_and_counted(timeout: bytes, door: Door):
    before = door.counted(INFER).get(499, 0)
    got = await answer(door, head(PATH, (b"grpc-timeout", timeout)), data(message(infer())))
    assert (got.code, "grpc-timeout" in got.text) == (INTERNAL, True)  # gRPC's parser answers
    assert door.until_counted(INFER, 499, before + 1) == before + 1


@pytest.mark.parametrize("timeout", [-1, -(2**63)])
@pytest.mark.parametrize("deadline", [(), ((b"grpc-timeout", b"5S"),)], ids=["without", "with"])
async def test_a_negative_timeout_is_refused(timeout: int, deadline: Any, door: Door):
    parameters = {"timeout": pb.InferParameter(int64_param=timeout)}
    got = await answer(door, head(PATH, *deadline), data(message(infer(parameters=parameters))))
    assert (got.code, "parameters.timeout" in got.text) == (INVALID, True)


@pytest.mark.parametrize(("calls", "channels"), [(3000, 1), (4000, 8)])
async def test_a_flood_is_answered_and_counted(calls: int, channels: int, door: Door):
    before = sum(door.counted(INFER).values())
    raw = infer()
    own = [("grpc.use_local_subchannel_pool", 1)]
    opened: list[Any] = [grpc.aio.insecure_channel(door.url, options=own) for _ in range(channels)]
    asked = [opened[at % channels].unary_unary(INFER)(raw, timeout=60) for at in range(calls)]
    ended: list[Any] = await asyncio.gather(*map(_end, asked))
    codes = Counter(code for code, _ in ended)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}, codes
    hints = {hint for code, hint in ended if code == "RESOURCE_EXHAUSTED"}
    assert all(int(after) >= 1 and int(pushback) == 1000 * int(after) for after, pushback in hints)
    for channel in opened:
        await channel.close()
    assert sum(door.counted(INFER).values()) == before + calls


async def _end(call: Any) -> tuple[str, tuple[str, str] | None]:
    """Code of a call, and when it may be tried again."""
    code, metadata = await call.code(), dict(await call.trailing_metadata() or ())
    if code is grpc.StatusCode.OK:
        return "OK", None
    return code.name, (metadata["retry-after"], metadata["grpc-retry-pushback-ms"])


async def test_a_key_is_asked_for_before_the_message(locked: Door):
    for path in (PATH, b"/no.Such/Call"):
        got = await answer(locked, head(path))
        assert (got.code, "expected a known key" in got.text) == (NO_KEY, True)
    assert (await answer(locked, head(f"{CALL}ServerLive".encode()), data(message(b"")))).code == OK
    key = (b"x-api-key", KEY.encode())
    assert (await answer(locked, head(PATH, key), data(message(infer())))).code == OK
    assert (await answer(locked, head(b"/no.Such/Call", key))).code == UNIMPLEMENTED


async def test_a_key_that_is_no_text_is_not_logged(locked: Door):
    key = b"secret\xff" + KEY.encode()
    for name in (b"x-api-key", b"authorization"):
        assert (await answer(locked, head(PATH, (name, key)))).code == NO_KEY
    twice = head(PATH, (b"x-api-key", KEY.encode()), (b"x-api-key", b"another"))
    assert (await answer(locked, twice, data(message(infer())))).code == OK  # the first, as in HTTP
    text = locked.log.read_text()
    assert "secret" not in text
    assert KEY not in text


async def test_a_model_that_is_not_ready_says_when_to_try_again(door: Door):
    await asyncio.to_thread(door.client.unload_model, "toy")
    got = await answer(door, head(PATH), data(message(infer())))
    await asyncio.to_thread(door.client.load_model, "toy")
    assert (got.code, got.metadata["retry-after"]) == (UNAVAILABLE, "1")
    assert got.metadata["grpc-retry-pushback-ms"] == "1000"


async def test_long_names_do_not_make_long_errors(door: Door):
    got = await answer(door, head(PATH), data(message(infer(model_name="ø" * 15_000))))
    assert (got.code, len(got.text) < 4000) == (5, True)


async def test_nothing_was_unexpected(door: Door):
    """Last: the log of all that came before."""
    text = door.log.read_text()
    assert not [word for word in ("Traceback", "request failed", "Unexpected [") if word in text]
    assert all(line.startswith("{") for line in text.splitlines())  # gRPC's own are no JSON
