"""Bodies: decompressed within the limit; rejected if they are too long, too slow or not in the stated encoding."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from models.contract.errors import RequestError
from service.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError, EncodingError
from service.transport.body import BodyLimit, read_body
from tests.service.toy import Toy
from tests.service.world import World

LIMIT = BodyLimit(1000, 5.0)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


def request_of(messages: list[Message], **headers: str) -> Request:
    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


def chunks(body: bytes, size: int) -> list[Message]:
    cut = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    return [
        {"type": "http.request", "body": part, "more_body": at + 1 < len(cut)}
        for at, part in enumerate(cut)
    ]


@given(
    body=st.binary(max_size=1000),
    size=st.integers(1, 300),
    encoding=st.sampled_from(["gzip", "deflate", "identity"]),
)
def test_what_was_packed_comes_out(body: bytes, size: int, encoding: str):
    sent = PACK[encoding](body)
    request = request_of(chunks(sent, size), content_encoding=encoding)
    limit = BodyLimit(max(1000, len(sent)), 5.0)
    assert asyncio.run(read_body(request, limit)) == body


@given(body=st.binary(max_size=60), encoding=st.sampled_from(["gzip", "deflate"]))
def test_bytes_in_another_format_are_rejected(body: bytes, encoding: str):
    with pytest.raises(RequestError, match=f"expected one whole {encoding} stream"):
        asyncio.run(read_body(request_of(chunks(body, 20), content_encoding=encoding), LIMIT))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("change", [lambda sent: sent[:-1], lambda sent: sent + b"x"])
def test_a_stream_cut_short_or_followed_by_more_is_refused(encoding: str, change):
    sent = change(PACK[encoding](b"body" * 50))
    with pytest.raises(RequestError, match=f"expected one whole {encoding} stream"):
        asyncio.run(read_body(request_of(chunks(sent, 500), content_encoding=encoding), LIMIT))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_decompression_bomb_is_rejected_before_it_is_decompressed(encoding: str):
    sent = PACK[encoding](bytes(20_000_000))
    request = request_of(chunks(sent, 1 << 20), content_encoding=encoding)
    with pytest.raises(BodyTooLargeError):
        asyncio.run(read_body(request, BodyLimit(len(sent), 5.0)))


def test_exactly_the_limit_is_read_and_one_more_is_not():
    sent = gzip.compress(bytes(1000))
    assert len(asyncio.run(read_body(request_of(chunks(sent, 7), content_encoding="gzip"), LIMIT)))
    sent = gzip.compress(bytes(1001))
    with pytest.raises(BodyTooLargeError):
        asyncio.run(read_body(request_of(chunks(sent, 7), content_encoding="gzip"), LIMIT))


def test_a_slow_body_and_a_client_that_went_away_have_names():
    first = {"type": "http.request", "body": b"{", "more_body": True}
    with pytest.raises(
        BodyTimeoutError, match=r"got only a part, expected the whole body within 0\.01 s"
    ):
        asyncio.run(read_body(request_of([first]), BodyLimit(1000, 0.01)))
    with pytest.raises(ClientGoneError):
        asyncio.run(read_body(request_of([first, {"type": "http.disconnect"}]), LIMIT))
    with pytest.raises(EncodingError, match="got 'br', expected one of: gzip"):
        asyncio.run(read_body(request_of([], content_encoding="br"), LIMIT))


async def slowly() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(10)


@pytest.mark.anyio
async def test_errors_of_bodies_have_their_status(world: World):
    world.publish(Toy())
    body = json.dumps({"user_id": "ann", "candidates": ["i1"]}).encode()
    async with world.service(body_timeout_s=0.05, max_body_bytes=2000) as service:

        async def ask(content: bytes, encoding: str) -> tuple[int, str]:
            headers = {"Content-Encoding": encoding}
            answer = await service.client.post("/v1/score", content=content, headers=headers)
            return answer.status_code, answer.json().get("error", "")

        plain = await service.score("ann", ["i1"])
        packed = await service.client.post(
            "/v1/score", content=gzip.compress(body), headers={"Content-Encoding": "gzip"}
        )
        bomb = await ask(gzip.compress(b" " * 3000 + body), "gzip")
        broken = await ask(body, "deflate")
        unknown = await ask(body, "br")
        slow = await service.client.post("/v1/score", content=slowly())
    assert packed.json()["scores"] == plain["scores"]
    assert bomb == (413, "body: got more than 2000 bytes, expected at most 2000 bytes")
    assert (broken[0], unknown[0], slow.status_code) == (400, 415, 408)
    assert slow.headers["connection"] == "close"
