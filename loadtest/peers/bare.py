"""A call in process, without a server: `python -m loadtest.peers.bare` with a plan as JSON on stdin.

The row `BARE` is ONNX Runtime with the published graph, as the peers run it; the others are the service's engines, as
the service calls them. Same queries as the servers. Inputs are made before the measurement, so only the call is timed.
At concurrency 8 there is one thread for each core: no server of this engine can answer more.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from loadtest.peers.cells import Cell, measured
from loadtest.peers.engine_call import EngineCall
from loadtest.peers.queries import Query, read_queries
from loadtest.peers.ranker import Ranker
from loadtest.peers.servers import BARE, OTHER_ENGINE, bare_row

Call = Callable[[], object]
ENGINE_AT = len(bare_row(""))


def published_calls(queries: list[Query]) -> list[Call]:
    """A call of ONNX Runtime with the published graph for each query."""
    ranker = Ranker()
    feeds = [ranker.feed(query.user_id, query.candidates, query.fields) for query in queries]
    return [partial(ranker.run, feed) for feed in feeds]


def engine_calls(engine: EngineCall, queries: list[Query]) -> list[Call]:
    """A call of the engine for each query, once its scores are checked.

    Raises:
        ValueError: a score is wrong.
    """
    slates = [engine.slate(query) for query in queries]
    for query, slate in zip(queries, slates, strict=True):
        if query.scores:
            worst = np.abs(engine.scores(slate) - query.scores).max()
            if not worst <= OTHER_ENGINE:
                raise ValueError(f"scores of user {query.user_id} differ by {worst:.2g}")
    return [partial(engine.run, slate) for slate in slates]


def keep_running(calls: list[Call], start: float, end: float, pause_s: float) -> list[float]:
    """Durations in seconds of the calls that began after `start` and ended before `end`."""
    took_s: list[float] = []
    number, now = 0, time.perf_counter()
    while now < end:
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter() if pause_s else now
        calls[number % len(calls)]()
        now = time.perf_counter()
        number += 1
        if began >= start and now <= end:
            took_s.append(now - began)
    return took_s


def figures_of(cell: Cell, calls: list[Call], warm_up_s: float, seconds: float) -> dict[str, Any]:
    """Measure one cell."""
    threads = min(cell.concurrency, os.cpu_count() or 1)
    start = time.perf_counter() + warm_up_s
    end = start + seconds
    with ThreadPoolExecutor(threads) as pool:
        span = (start, end, cell.pause_ms / 1000)
        running = [pool.submit(keep_running, calls, *span) for _ in range(threads)]
        took_s = np.concatenate([future.result() for future in running])
    return asdict(measured(took_s, seconds))


def main() -> None:
    """Read the plan, print the figures. A failure is one line on stderr."""
    plan = json.loads(sys.stdin.read())
    queries, row = read_queries(), plan["row"]
    try:
        if row == BARE:
            calls = {slate: published_calls(drawn) for slate, drawn in queries.items()}
        else:
            engine = EngineCall(row[ENGINE_AT:])
            calls = {slate: engine_calls(engine, drawn) for slate, drawn in queries.items()}
    except ValueError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    gc.collect()
    gc.disable()
    cells = [Cell(**cell) for cell in plan["cells"]]
    timing = (plan["warm_up_s"], plan["seconds"])
    print(json.dumps({str(cell): figures_of(cell, calls[cell.slate], *timing) for cell in cells}))


if __name__ == "__main__":
    main()
