"""`python -m service`: build the real parts and run uvicorn. The only place that does."""

import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from pydantic import ValidationError

from models.cache_server import redact_url, resolve_cache_url
from models.errors import CacheUnavailableError
from service.app import create_app
from service.generation import Follower
from service.pipeline import Pipeline
from service.scorer import runtime_providers
from service.settings import Settings
from service.store import RedisStore
from service.telemetry import Telemetry, log_as_json

DRAIN_S = 30
"""Seconds that requests in flight get after SIGTERM."""

log = logging.getLogger("service")


def main() -> None:
    """Serve until a signal says to stop."""
    settings = read_settings()
    log_as_json(settings.log_level)
    try:
        cache_url = resolve_cache_url(settings.cache_url)
    except CacheUnavailableError as error:
        sys.exit(str(error))
    about = {"cache": redact_url(cache_url), "providers": runtime_providers()}
    log.info("starting", extra={**about, "host": settings.host, "port": settings.port})
    uvicorn.run(
        build_app(settings, cache_url),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


def read_settings() -> Settings:
    """Settings from the environment; says which variable is wrong, and stops."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "ABSORB_" + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: got {problem['input']!r}, expected: {problem['msg']}\n")
        sys.exit(2)


def build_app(settings: Settings, cache_url: str) -> FastAPI:
    """The application with its real parts."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    telemetry = Telemetry(registry)
    store = RedisStore(cache_url, settings.cache_timeout_ms / 1000)
    follower = Follower(
        store, telemetry, settings.artifact_dir, settings.num_threads, settings.default_model
    )
    num_workers = max(1, (os.cpu_count() or 1) // settings.num_threads)
    workers = ThreadPoolExecutor(num_workers, thread_name_prefix="scorer")
    pipeline = Pipeline(settings, follower, store, telemetry, workers, time.time)
    return create_app(settings, store, follower, pipeline, telemetry)


if __name__ == "__main__":
    main()
