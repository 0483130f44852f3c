"""`python -m service` as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.builders import NAME, ROOT
from tests.e2e.deadline import LIMIT_S, wait_until

POLL_INTERVAL_S = 0.2
CACHE_TIMEOUT_MS = 2000
"""A busy machine must not make a lookup late: a test says when the cache is away."""


@contextmanager
def service_process(
    cache_url: str, artifacts: Path, log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A service that listens, with further settings; yields its URL. It need not be ready."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ABSORB_")} | {
        "ABSORB_PORT": "0",
        "ABSORB_CACHE_URL": cache_url,
        "ABSORB_ARTIFACT_DIR": str(artifacts),
        "ABSORB_DEFAULT_MODEL": NAME,
        "ABSORB_POLL_INTERVAL_S": str(POLL_INTERVAL_S),
        "ABSORB_CACHE_TIMEOUT_MS": str(CACHE_TIMEOUT_MS),
        # What a service remembers would hide what is done to the cache.
        "ABSORB_HOST_CACHE_BYTES": "0",
        **(settings or {}),
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT, env=environment, stdout=output, stderr=output,
        ) as process,
    ):  # fmt: skip
        try:
            yield wait_until(lambda: _url(process, log), "the service to listen")
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            process.wait(LIMIT_S)


@contextmanager
def ready_service(
    cache_url: str, artifacts: Path, log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A service that scores, with further settings."""
    with service_process(cache_url, artifacts, log, settings) as url:
        wait_until(lambda: is_ready(url), "the service to be ready")
        yield url


def is_ready(url: str) -> bool:
    return httpx.get(f"{url}/health/ready", timeout=LIMIT_S).status_code == 200


def metric(url: str, name: str, label: str | None = None) -> dict[str, float]:
    """Samples of a metric by the value of one of its labels (by the model, if none is named)."""
    text = httpx.get(f"{url}/metrics", timeout=LIMIT_S).text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {one.labels[label or "model"]: one.value for one in samples if one.name == name}


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens; empty as long as it does not."""
    assert process.poll() is None, log.read_text()
    found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())
    return found[1] if found else ""
