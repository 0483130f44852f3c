"""Each image's steps outside a container: install, then start its program with only what the image copies.

The builder's image builds the tiny recipe into a cache, the service's image serves it, and the load generator's image
sends requests.
"""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from service.settings import Settings
from service.tools.published import read_published
from service.tools.running_service import free_port
from tests.docker.compose_cache import COMPOSE, ComposeCache, compose_cache
from tests.docker.dockerfile import ROOT, Image
from tests.service.follow.brokers import mock_cluster

pytestmark = pytest.mark.timeout(1200)  # three installations

START_LIMIT_S = 120.0


@pytest.fixture(scope="module")
def cache() -> Iterator[ComposeCache]:
    """The stack's own cache; each image is a user of its own there."""
    with compose_cache() as started:
        yield started


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory, cache: ComposeCache) -> Path:
    """Folder of artifacts that the builder's image filled, its states published to the cache."""
    image = Image(tmp_path_factory.mktemp("builder-image"))
    image.build(
        ROOT / "docker/builder.Dockerfile",
        "builder",
        {"EXTRAS": "builder cpu"},
    )
    recipe = image.root / "tiny.toml"
    shutil.copyfile(ROOT / "builder/recipes/tiny.toml", recipe)

    done = subprocess.run(
        [*image.entrypoint, "run", str(recipe)],
        cwd=image.workdir,
        env={**image.environment, "ABSORB_CACHE_URL": cache.url("builder"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return image.workdir / "var" / "artifacts"


@pytest.fixture(scope="module")
def url(
    tmp_path_factory: pytest.TempPathFactory, cache: ComposeCache, artifacts: Path
) -> Iterator[str]:
    """The service's image, serving what the builder's image published."""
    image = Image(tmp_path_factory.mktemp("service-image"))
    image.build(ROOT / "docker/service.Dockerfile", "service", {})
    assert not (image.root / "app" / "service").exists()  # it runs from the installed wheel
    own = {
        "ABSORB_CACHE_URL": cache.url("service"),
        "ABSORB_ARTIFACT_DIR": str(artifacts),
        "ABSORB_ALLOW_OPEN": "true",
        "ABSORB_DRAIN_DELAY_S": "0",
        "ABSORB_PORT": str(free_port()),
        "ABSORB_GRPC_PORT": "0",
    }
    with _started(image, own) as address:
        yield address


def test_the_service_image_scores_what_the_builder_image_published(
    url: str, cache: ComposeCache, artifacts: Path
) -> None:
    models = _json(f"{url}/v1/models")["models"]
    assert [model["name"] for model in models] == ["tiny"]

    published = read_published(
        Settings(cache_url=cache.url("reader"), artifact_dir=artifacts), None, 1
    )
    body = {"user_id": published.users[0], "candidates": ["i1", "i2", "no such item"]}
    answer = _json(f"{url}/v1/score", body)

    assert answer["state"]["source"] == "hit"
    assert len(answer["scores"]) == 3
    assert answer["unknown_candidates"] == ["no such item"]


def test_the_load_image_measures_the_service_image(
    url: str, cache: ComposeCache, artifacts: Path, tmp_path: Path
) -> None:
    image = Image(tmp_path)
    image.build(ROOT / "docker/service.Dockerfile", "load", {"EXTRAS": "cpu load"})
    done = subprocess.run(
        [
            *image.entrypoint,
            "--url",
            url,
            "--scenario",
            "closed",
            "--duration-s",
            "2",
            "--out",
            str(tmp_path / "load"),
        ],
        cwd=image.workdir,
        env={
            **image.environment,
            "ABSORB_CACHE_URL": cache.url("reader"),
            "ABSORB_ARTIFACT_DIR": str(artifacts),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    # 1: a limit on a latency was not met, which on a busy machine says nothing about the image.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    summary = json.loads((tmp_path / "load" / "closed.json").read_text())
    assert summary["requests"] > 0
    assert summary["failures"] == {}


def test_the_image_with_kafka_folds_events_of_a_topic(
    cache: ComposeCache, artifacts: Path, tmp_path: Path
) -> None:
    service = COMPOSE["services"]["follow-kafka"]
    extras = service["build"]["args"]["EXTRAS"].replace("${RUNTIME:-cpu}", "cpu")
    image = Image(tmp_path)
    image.build(ROOT / "docker/service.Dockerfile", service["build"]["target"], {"EXTRAS": extras})
    with mock_cluster() as brokers, cache.client("admin") as client:
        producer = Producer({"bootstrap.servers": brokers, "log_level": 0})
        body = {"user_id": "of a topic", "item_id": "i1"}
        producer.produce("purchases", json.dumps(body).encode(), key="of a topic")
        assert producer.flush(10) == 0
        own = {
            "ABSORB_CACHE_URL": cache.url("worker"),
            "ABSORB_ARTIFACT_DIR": str(artifacts),
            "ABSORB_KAFKA_SERVERS": brokers,
            "ABSORB_KAFKA_TOPIC": "purchases",
        }
        with (
            (tmp_path / "log").open("w") as out,
            subprocess.Popen(
                service["command"], cwd=image.workdir, env={**image.environment, **own},
                stdout=out, stderr=subprocess.STDOUT,
            ) as process,
        ):  # fmt: skip
            try:
                end = time.monotonic() + START_LIMIT_S
                while not any(client.scan_iter("absorb:tiny:*:of a topic")):
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < end, (tmp_path / "log").read_text()
                    time.sleep(0.1)
            finally:
                process.terminate()
                process.wait()


@contextmanager
def _started(image: Image, own: Mapping[str, str]) -> Iterator[str]:
    """The image's program, ready by its own health check."""
    environment = {**image.environment, **own}
    log = image.root / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*image.entrypoint, *image.command],
            cwd=image.workdir, env=environment, stdout=out, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        try:
            end = time.monotonic() + START_LIMIT_S
            while subprocess.run(
                image.healthcheck, env=environment, capture_output=True, check=False
            ).returncode:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{environment['ABSORB_PORT']}"
        finally:
            process.terminate()
            process.wait()


def _json(url: str, body: object = None) -> Any:
    request = urllib.request.Request(url, headers={"content-type": "application/json"})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=10) as response:
        return json.load(response)
