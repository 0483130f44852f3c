"""`python -m service`: read the settings, make the parts, and run uvicorn in one process or in several."""

import asyncio
import gc
import logging
import socket
import sys
import time
from functools import partial
from typing import Annotated, Any, cast

import typer
import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from starlette.types import ASGIApp
from typer.core import TyperCommand

from models.contract.cache_url import redact_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import CacheUnavailableError
from service.app import Dependencies, create_app
from service.observability.json_log import log_as_json
from service.observability.tracing import make_tracing
from service.process.connections import BoundedProtocol
from service.process.drain import DrainingServer, serve_until_signal
from service.process.fleet import Fleet, Seat, bind, check_free, end_with_parent
from service.process.local_endpoints import LocalEndpoints
from service.runtime.engines.onnxruntime import runtime_providers
from service.settings import Settings, describe_settings, read_settings
from service.transport.auth import exposure_problem
from service.wiring import build_dependencies

HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("cache-control", "no-store"),
]
"""Sent with every answer; uvicorn prepares them once. Answers concern persons, so proxies must not store them."""

EXIT_CODES = (
    "Exit codes: 0 after SIGTERM, SIGINT or SIGHUP and a complete drain; 1 if a second signal cut the drain short, or "
    "the service cannot start; 2 if a setting or an argument is wrong."
)

log = logging.getLogger("service")


class CommandWithSettings(TyperCommand):
    """A command whose help ends with the list of settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # typer keeps both types private
        """Print the help, then the settings."""
        super().format_help(ctx, formatter)
        console = Console(highlight=False)
        console.print("Settings: environment variables", style="bold")
        for variable, default, meaning in describe_settings():
            console.print(f"\n{variable}, default: {default}", markup=False)
            console.print(Padding(Text(meaning), (0, 0, 0, 4)))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Hidden = Annotated[int | None, typer.Option(hidden=True)]


@app.command(cls=CommandWithSettings, epilog=EXIT_CODES)
def serve(number: Hidden = None, fd: Hidden = None) -> None:
    """Score candidates over HTTP until SIGTERM. All settings are environment variables.

    Example: ABSORB_PORT=8080 absorb serve
    """
    # A fleet starts its processes with both options.
    seat = None if number is None or fd is None else Seat(number, fd)
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
        run_service(seat.settings(settings, common.getsockname()[1]), cache_url, common)
    elif settings.processes == 1:
        run_service(settings, cache_url)
    else:
        sys.exit(_run_fleet(settings))


def run_service(settings: Settings, cache_url: str, common: socket.socket | None = None) -> None:
    """Serve in this process until a signal stops it.

    Args:
        settings: settings of this process.
        cache_url: URL that redis-py understands.
        common: socket bound to the port that several processes share; None: this is the only process.
    """
    backends = {"cache": redact_url(cache_url), "providers": runtime_providers()}
    log.info("starting", extra={**backends, "host": settings.host, "port": settings.port})
    dependencies = build_all(settings, cache_url)
    application: ASGIApp = create_app(dependencies)
    if common is not None:
        application = LocalEndpoints(application, common.getsockname()[1], settings)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        loop="service.process.event_loop:BoundedLoop",
        # uvicorn calls it, whatever it is
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, dependencies.arrivals)),
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
    # The collector would look through all of this again and again, for tens of milliseconds each time.
    gc.collect()
    gc.freeze()
    serve_until_signal(server, dependencies.workers)


def _run_fleet(settings: Settings) -> int:
    try:
        check_free(settings.host, settings.port)
        reserved = bind(settings.host, settings.port)  # keeps the port; does not listen
    except OSError as error:
        sys.stderr.write(f"ABSORB_PORT: {settings.port}: {error.strerror}\n")
        return 1
    with reserved:
        port = reserved.getsockname()[1]
        scheme = "http" if settings.tls_cert_file is None else "https"
        where = f"{scheme}://{settings.host}:{port}"
        log.info("%d processes, running on %s", settings.processes, where)
        return Fleet(settings.host, port, settings.processes).run()


def build_all(settings: Settings, cache_url: str) -> Dependencies:
    """Every part of a service process, with the metrics of the interpreter and the process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return build_dependencies(settings, cache_url, registry, time.time, make_tracing())


if __name__ == "__main__":
    app()
