"""What tests share that send many requests which nobody thought of."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from hypothesis import HealthCheck, settings

from tests.service.toy import Toy
from tests.service.world import World

Send = Callable[[str, str, bytes, Mapping[str, bytes | str]], httpx.Response]
"""Method, URL, body, headers -> answer."""
ANSWER_LIMIT_S = 30.0
PROFILE = "fuzz"


@contextmanager
def serving(world: World, **how: Any) -> Iterator[Send]:
    """The service in process, asked from outside of its event loop: hypothesis does not wait for coroutines."""
    world.publish(Toy())
    service = world.service(**how)
    with asyncio.Runner() as runner:
        running = runner.run(service.__aenter__())

        async def ask(method: str, url: str, body: bytes, headers: Any) -> httpx.Response:
            await running.dependencies.readiness.look()  # the loop stands still between requests
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await running.client.request(
                    method, url, content=body, headers=list(headers.items())
                )

        yield lambda *request: runner.run(ask(*request))
        runner.run(service.__aexit__(None, None, None))


def drawn(examples: int) -> settings:
    """So many draws, the same in every run; with `--hypothesis-profile fuzz` others in each, and as many as it says."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    if settings.get_current_profile_name() == PROFILE:
        return settings(suppress_health_check=quiet)
    return settings(
        max_examples=examples, derandomize=True, database=None, suppress_health_check=quiet
    )


def check_refusal(response: httpx.Response) -> None:
    """It went well, or the client is told what was wrong with what it sent."""
    # 504: the request itself may say that it cannot wait.
    assert response.status_code < 500 or response.status_code == 504, response.text
    if response.status_code >= 400:
        said = response.json()
        assert list(said) == ["error"]
        assert said["error"]
