"""ONNX Runtime alone, a process of its own: `python -m loadtest.peers.bare` with a plan as JSON on stdin.

The same session options, the same queries; feeds are made beforehand, so that only `session.run` is timed. At
concurrency 8, as many threads as there are cores run it: no server over this graph can do more.
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
    """Seconds of every run that began after `start` and ended before `end`."""
    took_s: list[float] = []
    at, now = 0, time.perf_counter()
    while now < end:
        began = now
        ranker.run(feeds[at % len(feeds)])
        now = time.perf_counter()
        at += 1
        if began >= start and now <= end:
            took_s.append(now - began)
    return took_s


def main() -> None:
    """Read the plan, print the figures."""
    plan = json.loads(sys.stdin.read())
    ranker, queries, figures = Ranker(), read_queries(), {}
    for cell in (Cell(**cell) for cell in plan["cells"]):
        feeds = [ranker.feed(one.user_id, one.candidates) for one in queries[cell.slate]]
        gc.collect()
        gc.disable()
        threads = min(cell.concurrency, os.cpu_count() or 1)
        start = time.perf_counter() + plan["warm_up_s"]
        end = start + plan["seconds"]
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(keep_running, ranker, feeds, start, end) for _ in range(threads)]
            took_s = np.concatenate([one.result() for one in running])
        figures[str(cell)] = asdict(measured(took_s, plan["seconds"]))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
