"""Locust users that send `Traffic` in a closed loop or on a schedule. `absorb load` runs this file.

    python -m locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8000 \
        --users 1 --rate-per-s 50 --duration-s 20 \
        --sample var/load/sample.json --samples-out var/load/open.samples.json OpenLoop

Importing locust patches the standard library for gevent, so this file runs in a process of its own.
"""

import json
import math
import time
from argparse import Namespace
from itertools import cycle
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Group
from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.arrivals import pace, poisson_schedule
from loadtest.traffic import Sample, Traffic

NUM_BODIES = 1000
"""Number of bodies, made before the run and sent in turn."""
HEADERS = {"Content-Type": "application/json"}


class Recorder:
    """Keeps every latency, because locust's own statistics round them."""

    def __init__(self, environment: Environment) -> None:
        self._latency_ms: list[float] = []
        self._due_s: list[float] = []
        self._failures: dict[str, int] = {}
        self._first_due_s = math.inf
        self._last_answer_s = -math.inf
        environment.events.request.add_listener(self._record)

    def _record(self, response_time: float, exception: object, **_: object) -> None:
        self._last_answer_s = time.perf_counter()
        due_s = self._last_answer_s - response_time / 1000
        # The first answer need not be that of the first request: after a stall it may be one of the last.
        self._first_due_s = min(self._first_due_s, due_s)
        if exception is not None:
            text = str(exception)[:200]
            self._failures[text] = self._failures.get(text, 0) + 1
            return
        self._latency_ms.append(response_time)
        self._due_s.append(due_s)

    def save(self, path: Path) -> None:
        """Write the file that `report.Samples` reads."""
        fields = {
            "latency_ms": self._latency_ms,
            "due_s": [due_s - self._first_due_s for due_s in self._due_s],
            "failures": self._failures,
            "elapsed_s": max(0.0, self._last_answer_s - self._first_due_s),
        }
        path.write_text(json.dumps(fields))


class ClosedLoop(FastHttpUser):
    """Sends the next request when the previous one is answered."""

    wait_time = constant(0)

    @task
    def score(self) -> None:
        """Send one request."""
        body = next(self.environment.bodies)
        self.client.post("/v1/score", data=body, headers=HEADERS)


class OpenLoop(FastHttpUser):
    """Sends requests when they are due. One user sends all of them, so `--users` must be 1."""

    concurrency = 1000  # connections: a slow service must not delay a request that is due
    wait_time = constant(0)

    @task
    def send_schedule(self) -> None:
        """Send the whole schedule, then end the test."""
        options = self.environment.parsed_options
        in_flight = Group()
        pace(
            poisson_schedule(options.rate_per_s, options.duration_s, seed=0),
            time.perf_counter,
            gevent.sleep,
            lambda due_s: in_flight.spawn(self._score, due_s),
        )
        in_flight.join()
        self.environment.runner.quit()

    def _score(self, due_s: float) -> None:
        body = next(self.environment.bodies)
        with self.client.post(
            "/v1/score", data=body, headers=HEADERS, catch_response=True
        ) as answer:
            answer.request_meta["response_time"] = 1000 * (time.perf_counter() - due_s)


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--rate-per-s", type=float, help="requests per second of OpenLoop")
    parser.add_argument(
        "--duration-s",
        type=float,
        help="duration of OpenLoop in seconds; ClosedLoop has --run-time",
    )
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--samples-out", type=Path, required=True)


@events.init.add_listener
def _prepare(environment: Any, **_: object) -> None:
    options: Namespace = environment.parsed_options
    environment.bodies = cycle(Traffic(Sample.load(options.sample), seed=0).bodies(NUM_BODIES))
    recorder = Recorder(environment)
    environment.events.quitting.add_listener(lambda **_: recorder.save(options.samples_out))
