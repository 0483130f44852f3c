"""`python -m service`: build the real parts and run uvicorn. The only place that does."""

import logging
import sys
import time

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from pydantic import ValidationError

from models.cache_server import redact_url, resolve_cache_url
from models.errors import CacheUnavailableError
from service.access import exposure_problem
from service.connections import BoundedProtocol
from service.drain import DrainingServer, serve_until_told
from service.parts import Parts, build_parts
from service.scorer import runtime_providers
from service.settings import SECRET_FIELDS, Settings
from service.telemetry import log_as_json
from service.tracing import make_tracing

HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("cache-control", "no-store"),
]
"""With every answer: uvicorn writes them from one prepared list. Answers are about persons, so nobody may keep them."""

log = logging.getLogger("service")


def main() -> None:
    """Serve until a signal says to stop."""
    settings = read_settings()
    if (problem := exposure_problem(settings)) is not None:
        sys.exit(f"{problem}\n")
    log_as_json(settings.log_level)
    try:
        cache_url = resolve_cache_url(settings.cache_url)
    except CacheUnavailableError as error:
        sys.exit(str(error))
    about = {"cache": redact_url(cache_url), "providers": runtime_providers()}
    log.info("starting", extra={**about, "host": settings.host, "port": settings.port})
    parts = build_all(settings, cache_url)
    config = uvicorn.Config(
        parts.app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_limit_s,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        headers=HEADERS,
        server_header=False,
    )
    server = DrainingServer(config, parts.readiness, settings.drain_delay_s, parts.close_other_door)
    serve_until_told(server, parts.workers)


def read_settings() -> Settings:
    """Settings from the environment; says which variable is wrong, and stops."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "ABSORB_" + "_".join(str(part) for part in problem["loc"]).upper()
            is_secret = problem["loc"][0] in SECRET_FIELDS if problem["loc"] else False
            got = "another value" if is_secret else repr(problem["input"])
            sys.stderr.write(f"{name}: got {got}, expected: {problem['msg']}\n")
        sys.exit(2)


def build_all(settings: Settings, cache_url: str) -> Parts:
    """The real parts."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return build_parts(settings, cache_url, registry, time.time, make_tracing())


if __name__ == "__main__":
    main()
