"""Shared by tests that send many generated requests."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from hypothesis import HealthCheck, settings

from models.contract.state_spec import RecordDtype
from tests.service.toy import Toy
from tests.service.world import World

Send = Callable[[str, str, bytes, Mapping[str, bytes | str]], httpx.Response]
"""Method, URL, body, headers -> answer."""
ANSWER_LIMIT_S = 30.0
PROFILE = "fuzz"


@contextmanager
def serving(
    world: World, toy: Toy | None = None, dtype: RecordDtype = "fp32", **how: Any
) -> Iterator[Send]:
    """The service in this process, called from outside its event loop: hypothesis does not wait for coroutines."""
    world.publish(toy or Toy(), dtype=dtype)
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
    """`examples` draws, the same in every run. The profile `fuzz` draws others, as many as it sets."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    if settings.get_current_profile_name() == PROFILE:
        return settings(suppress_health_check=quiet)
    return settings(
        max_examples=examples, derandomize=True, database=None, suppress_health_check=quiet
    )


def check_refusal(response: httpx.Response) -> None:
    """Check that the request succeeded, or that the error says what was wrong with it."""
    # 504: the request may set a deadline that is too short.
    assert response.status_code < 500 or response.status_code == 504, response.text
    if response.status_code >= 400:
        body = response.json()
        assert list(body) == ["error"]
        assert body["error"]
