"""What a generation scores before it serves: slates of usual sizes, and requests that were recorded.

A new artifact's first runs are slow: memory is allocated, kernels are chosen, pages are read. They happen here, in a
thread of its own, on the way that requests take later, before the swap and for a bounded time. A slate that cannot be
scored keeps the generation from serving, as a broken artifact does. A recorded request that cannot be scored was
recorded with another model or other fields: it is counted in the log, and keeps nobody from anything.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import orjson

from models.contract.errors import AbsorbError, ArtifactError, RequestError
from service.generations.serving import Serving
from service.http.requests import ScoreRequest, parse_request
from service.query import Query, Scores

LIMIT_S = 10.0
"""Seconds that a generation waits for its warm-up at most."""
MAX_RECORDED = 1000
PATH = "/v1/score"
NOBODY = "absorb-warm-up"
"""Id of a user, and of an item, that is in no cache and no catalogue."""

log = logging.getLogger(__name__)
Score = Callable[[Serving, Query, Executor], Awaitable[Scores]]


class WarmUp:
    """Warms up what is about to serve."""

    def __init__(self, slates: Sequence[int], file: Path | None, score: Score) -> None:
        """Keep what to score.

        Args:
            slates: numbers of candidates.
            file: requests as `ABSORB_SLOW_DIR` captures them; None: there are none.
            score: scores uncounted, in the executor that it is given.
        """
        self._slates = slates
        self._file = file
        self._score = score
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warm-up")

    async def run(self, serving: Serving) -> None:
        """Score until all is scored or the time is over.

        Raises:
            ArtifactError: a slate cannot be scored.
        """
        began = time.monotonic()
        model = serving.generation.model
        fields: dict[str, object] = {"model": model, "generation": serving.generation.name}
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._score_slates(serving)
                fields |= await self._score_recorded(serving)
        except TimeoutError:
            log.warning(
                "warm-up takes too long; the generation serves without the rest", extra=fields
            )
            return
        took_ms = round(1000 * (time.monotonic() - began))
        log.info("warmed up", extra={**fields, "slates": list(self._slates), "took_ms": took_ms})

    async def _score_slates(self, serving: Serving) -> None:
        for num_candidates in self._slates:
            query = Query(NOBODY, [NOBODY] * num_candidates, None, None, {})
            try:
                await self._score(serving, query, self._thread)
            except AbsorbError:
                raise
            except Exception as error:  # ONNX Runtime's errors have no base class of their own
                path = serving.artifact.path
                raise ArtifactError(f"artifact: {path} cannot score: {error}") from error

    async def _score_recorded(self, serving: Serving) -> dict[str, object]:
        """Score what was recorded for this model; how many went well, and how many did not."""
        if self._file is None:
            return {}
        num_scored = num_failed = 0
        loop = asyncio.get_running_loop()
        try:
            queries = await loop.run_in_executor(self._thread, read_queries, self._file)
        except OSError as error:
            return {"recorded_error": str(error)}
        vocabulary = serving.artifact.vocabulary
        for query in queries:
            if query.model in (None, serving.generation.model):
                context = vocabulary.known_context(query.context)
                try:
                    await self._score(serving, replace(query, context=context), self._thread)
                    num_scored += 1
                except (
                    Exception
                ) as error:  # of one recorded request: the others are still worth a try
                    num_failed += 1
                    log.warning("recorded request not scored", extra={"error": str(error)})
        return {"recorded": num_scored, "recorded_failed": num_failed}

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def read_queries(path: Path) -> list[Query]:
    """The latest recorded score requests; lines that are none are left out.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        found = [query for line in lines for query in _query(line)]
    return found[-MAX_RECORDED:]


def _query(line: bytes) -> Iterator[Query]:
    try:
        record = orjson.loads(line)
        if record["path"] == PATH:
            asked = parse_request(ScoreRequest, record["body"].encode())
            yield Query(asked.user_id, asked.candidates, asked.model, asked.recent, asked.context)
    except (orjson.JSONDecodeError, RequestError, KeyError, TypeError, AttributeError):
        return
