"""A client that closes the connection: its request is cancelled."""

import asyncio

import pytest
from starlette.types import Message

from tests.service.toy import Toy
from tests.service.world import Running, World, busy, post_score, until

pytestmark = pytest.mark.anyio


async def test_a_request_whose_client_left_is_cancelled(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1) as service:
        with busy(service):
            first = post_score(service)
            await until(lambda: service.metric("absorb_in_flight") == 1)
            left = asyncio.Event()
            serving = asyncio.create_task(_post_and_leave(service, left))
            await until(lambda: service.metric("absorb_queue_depth") == 1)
            left.set()
            await until(lambda: service.metric("absorb_queue_depth") == 0)
            await serving
        assert (await first).status_code == 200
        labels = {"route": "/v1/score", "method": "POST", "model": "", "code": "499"}
        assert service.metric("absorb_requests_total", **labels) == 1


async def _post_and_leave(service: Running, left: asyncio.Event) -> None:
    messages = [{"type": "http.request", "body": b'{"user_id": "ann", "candidates": ["i1"]}'}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        """The client does not read the response."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/score",
        "headers": [],
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "scheme": "http",
        "root_path": "",
        "raw_path": b"/v1/score",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await service.app(scope, receive, send)
