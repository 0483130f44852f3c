"""`python -m service`: build the real parts and run uvicorn. The only place that does."""

import argparse
import logging
import socket
import sys
import time
from collections.abc import Sequence

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from pydantic import ValidationError
from starlette.types import ASGIApp

from models.contract.cache_url import redact_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import CacheUnavailableError
from service.app import Dependencies, create_app
from service.observability.metrics import log_as_json
from service.observability.tracing import make_tracing
from service.process.connections import BoundedProtocol
from service.process.drain import DrainingServer, serve_until_told
from service.process.fleet import Fleet, Seat, bind, check_free, end_with_parent
from service.process.own_port import OwnPort
from service.runtime.scorer import runtime_providers
from service.settings import SECRET_FIELDS, Settings
from service.transport.auth import exposure_problem
from service.wiring import build_dependencies

HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("cache-control", "no-store"),
]
"""With every answer: uvicorn writes them from one prepared list. Answers are about persons, so nobody may keep them."""

log = logging.getLogger("service")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal says to stop."""
    seat = _seat(arguments)
    settings = read_settings()
    if (problem := exposure_problem(settings)) is not None:
        sys.exit(f"{problem}\n")
    log_as_json(settings.log_level)
    try:
        cache_url = resolve_cache_url(settings.cache_url)
    except CacheUnavailableError as error:
        sys.exit(str(error))
    if seat is not None:
        end_with_parent()
        common = socket.socket(fileno=seat.fd)
        serve(seat.settings(settings, common.getsockname()[1]), cache_url, common)
    elif settings.processes == 1:
        serve(settings, cache_url)
    else:
        sys.exit(_run_fleet(settings))


def serve(settings: Settings, cache_url: str, common: socket.socket | None = None) -> None:
    """Serve in this process.

    Args:
        settings: its own.
        cache_url: as redis-py understands it.
        common: bound to the port that it shares with other processes; None: it shares none.
    """
    about = {"cache": redact_url(cache_url), "providers": runtime_providers()}
    log.info("starting", extra={**about, "host": settings.host, "port": settings.port})
    dependencies = build_all(settings, cache_url)
    app: ASGIApp = create_app(dependencies)
    if common is not None:
        app = OwnPort(app, common.getsockname()[1], settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_limit_s,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        headers=HEADERS,
        server_header=False,
    )
    server = DrainingServer(
        config,
        dependencies.readiness,
        settings.drain_delay_s,
        dependencies.stop_accepting_grpc,
        common,
    )
    serve_until_told(server, dependencies.workers)


def _run_fleet(settings: Settings) -> int:
    try:
        check_free(settings.host, settings.port)
        reserved = bind(settings.host, settings.port)  # nobody listens on it: it keeps the port
    except OSError as error:
        sys.stderr.write(f"ABSORB_PORT: {settings.port}: {error.strerror}\n")
        return 1
    with reserved:
        port = reserved.getsockname()[1]
        scheme = "http" if settings.tls_cert_file is None else "https"
        where = f"{scheme}://{settings.host}:{port}"
        log.info("%d processes, running on %s", settings.processes, where)
        return Fleet(settings.host, port, settings.processes).run()


def _seat(arguments: Sequence[str] | None) -> Seat | None:
    """Where in a fleet this process is; None: in none."""
    parser = argparse.ArgumentParser(
        "python -m service",
        description="Score candidates. Settings: ABSORB_* variables, see README.md.",
    )
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    return None if options.number is None else Seat(options.number, options.fd)


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


def build_all(settings: Settings, cache_url: str) -> Dependencies:
    """Make the real dependencies."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return build_dependencies(settings, cache_url, registry, time.time, make_tracing())


if __name__ == "__main__":
    main()
