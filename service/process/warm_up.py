"""Warm-up: a generation scores slates of usual sizes and recorded requests before it serves.

The first runs of a new artifact are slow: memory is allocated, kernels are selected, pages are read. They happen here,
in a separate thread, through the same code as requests, before the swap and for a limited time. A slate that cannot be
scored keeps the generation from serving, as a broken artifact does. A recorded request may stem from another model or
have other fields; if it cannot be scored, it is only logged and counted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import orjson

from models.contract.errors import AbsorbError, ArtifactError, RequestError
from service.generations.serving import Serving
from service.http.requests import ScoreRequest, parse_request
from service.query import Query, Scores

LIMIT_S = 10.0
"""Longest time of a warm-up in seconds; then the generation serves."""
MAX_RECORDED = 1000
PATH = "/v1/score"
UNKNOWN_ID = "absorb-warm-up"
"""Id of a user without a record, and of an item outside the catalogue."""

log = logging.getLogger(__name__)
Score = Callable[[Serving, Query, Executor], Awaitable[Scores]]


class WarmUp:
    """Warms up a generation that is about to serve."""

    def __init__(self, slates: Sequence[int], file: Path | None, score: Score) -> None:
        """Prepare the thread.

        Args:
            slates: number of candidates of each slate.
            file: captured requests (`ABSORB_SLOW_DIR`); None: none are scored.
            score: scores in the given executor, without counting a request.
        """
        self._slates = slates
        self._file = file
        self._score = score
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warm-up")

    async def run(self, serving: Serving) -> None:
        """Score all slates and recorded requests, or as many as the time limit allows.

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
            query = Query(UNKNOWN_ID, [UNKNOWN_ID] * num_candidates, None, None, {})
            try:
                await self._score(serving, query, self._thread)
            except AbsorbError:
                raise
            except Exception as error:  # ONNX Runtime's errors have no base class of their own
                path = serving.artifact.path
                raise ArtifactError(f"artifact: {path} cannot score: {error}") from error

    async def _score_recorded(self, serving: Serving) -> dict[str, object]:
        """Score the requests recorded for this model; return counts of successes and failures for the log."""
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
                try:
                    await self._score(serving, query.known_to(vocabulary), self._thread)
                    num_scored += 1
                except Exception as error:  # any error of one request: the others are still scored
                    num_failed += 1
                    log.warning("a recorded request cannot be scored", extra={"error": str(error)})
        return {"recorded": num_scored, "recorded_failed": num_failed}


def read_queries(path: Path) -> list[Query]:
    """The last `MAX_RECORDED` score requests of a file; other lines are ignored.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        queries = [query for line in lines for query in _query(line)]
    return queries[-MAX_RECORDED:]


def _query(line: bytes) -> Iterator[Query]:
    try:
        record = orjson.loads(line)
        if record["path"] == PATH:
            body = parse_request(ScoreRequest, record["body"].encode(), None)
            ids, fields = body.candidates.ids, body.candidates.fields
            yield Query(body.user_id, ids, body.model, body.recent, body.context, fields)
    except (orjson.JSONDecodeError, RequestError, KeyError, TypeError, AttributeError):
        return
