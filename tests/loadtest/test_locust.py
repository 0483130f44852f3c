"""Locust in its own process, against a small HTTP server that answers late and sometimes not at all."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from loadtest.__main__ import app, run_locust
from loadtest.scenarios import Scenario
from loadtest.traffic import Sample
from tests.loadtest.command import run

SAMPLE = Sample("lrea", ["u1", "u2"], [f"i{n}" for n in range(100)], {}, recent_length=4)


class Scorer(BaseHTTPRequestHandler):
    """Answers each request, but nothing before `stall_s` after the first; every `fail_every`th with 503."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bodies: list[dict[str, object]]
    fail_every = 0
    stall_s = 0.0
    first_s: float | None = None

    def do_POST(self) -> None:
        served = type(self)
        if served.first_s is None:
            served.first_s = time.monotonic()
        time.sleep(max(0.0, served.first_s + served.stall_s - time.monotonic()))
        served.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        is_failure = served.fail_every and len(served.bodies) % served.fail_every == 0
        self.send_response(503 if is_failure else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Takes any number of connections at once."""

    request_queue_size = 500
    daemon_threads = True


@contextmanager
def scorer(**behaviour: float) -> Iterator[tuple[str, list[dict[str, object]]]]:
    bodies: list[dict[str, object]] = []
    with Server(
        ("127.0.0.1", 0), type("Once", (Scorer,), {**behaviour, "bodies": bodies})
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    SAMPLE.save(tmp_path / "sample.json")
    return tmp_path / "sample.json"


def test_an_open_loop_counts_a_stall_against_every_request_that_was_due(
    tmp_path: Path, sample: Path
) -> None:
    scenario = Scenario("open", duration_s=2, p99_ms=1, rate_per_s=50)

    with scorer(stall_s=1.0) as (url, bodies):
        samples = run_locust(scenario, url, sample, tmp_path)

    assert len(bodies) == len(samples.latency_ms) == 100
    assert samples.failures == {}
    # A request due t seconds into the stall waited 1 - t; a closed loop would have seen one slow request.
    stalled = samples.due_s < 0.9
    assert stalled.sum() > 25
    assert (samples.latency_ms[stalled] >= 990 - 1000 * samples.due_s[stalled]).all()


def test_a_closed_loop_sends_what_the_sample_holds_and_counts_failures(
    tmp_path: Path, sample: Path
) -> None:
    scenario = Scenario("closed", duration_s=2, p99_ms=1, users=2)

    with scorer(fail_every=2) as (url, bodies):
        samples = run_locust(scenario, url, sample, tmp_path)

    answered, failed = len(samples.latency_ms), sum(samples.failures.values())
    assert answered + failed == len(bodies)
    assert failed == len(bodies) // 2 > 0
    assert all("503" in text for text in samples.failures)
    assert {body["model"] for body in bodies} == {"lrea"}
    assert np.all(samples.latency_ms > 0)


def test_a_sample_that_is_none_stops_the_run_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sample.json").write_text(json.dumps({**vars(SAMPLE), "users": []}))
    options = ["--url", "http://127.0.0.1:9", "--scenario", "open", "--out", str(tmp_path)]

    assert run(app, *options, "--sample", tmp_path / "sample.json") == 2

    assert "got 0 users" in capsys.readouterr().err
