import asyncio
import json
from contextlib import suppress

import numpy as np
import pytest

from loadtest.peers.cells import measured


def test_percentiles_are_measured_latencies() -> None:
    got = measured(np.arange(1, 101) / 1000, 2.0)
    assert (got.answers, got.per_s) == (100, 50)
    assert (got.p50_ms, got.p90_ms, got.p99_ms) == pytest.approx((50, 90, 99))


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no answer in 1\.5 s"):
        measured(np.zeros(0), 1.5)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection to a server whose score is half of the user's id, and that has no user "x"."""
    with suppress(asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            asked = json.loads(await reader.readexactly(length))
            is_known = asked["user_id"] != "x"
            body = json.dumps({"scores": [int(asked["user_id"]) / 2] if is_known else []}).encode()
            status = f"HTTP/1.1 {200 if is_known else 404} Word\r\nContent-Length: {len(body)}"
            writer.write(f"{status}\r\n\r\n".encode() + body)
    writer.close()
