"""ONNX Runtime alone, in a process of its own: `python -m loadtest.peers.bare` with a plan as JSON on stdin.

Same session options and queries as the servers. Inputs are made before the measurement, so only `session.run` is timed.
At concurrency 8 there is one thread for each core: no server of this graph can answer more.
"""

import gc
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from loadtest.peers.cells import Cell, measured
from loadtest.peers.queries import read_queries
from loadtest.peers.ranker import Feed, Ranker


def keep_running(ranker: Ranker, feeds: list[Feed], start: float, end: float) -> list[float]:
    """Durations in seconds of the runs that began after `start` and ended before `end`."""
    took_s: list[float] = []
    number, now = 0, time.perf_counter()
    while now < end:
        began = now
        ranker.run(feeds[number % len(feeds)])
        now = time.perf_counter()
        number += 1
        if began >= start and now <= end:
            took_s.append(now - began)
    return took_s


def main() -> None:
    """Read the plan, print the figures."""
    plan = json.loads(sys.stdin.read())
    ranker, queries, figures = Ranker(), read_queries(), {}
    for cell in (Cell(**cell) for cell in plan["cells"]):
        feeds = [ranker.feed(q.user_id, q.candidates, q.fields) for q in queries[cell.slate]]
        gc.collect()
        gc.disable()
        threads = min(cell.concurrency, os.cpu_count() or 1)
        start = time.perf_counter() + plan["warm_up_s"]
        end = start + plan["seconds"]
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(keep_running, ranker, feeds, start, end) for _ in range(threads)]
            took_s = np.concatenate([future.result() for future in running])
        figures[str(cell)] = asdict(measured(took_s, plan["seconds"]))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
