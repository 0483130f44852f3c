"""`absorb follow`: fold live events into users' states until SIGTERM."""

import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from redis import Redis, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError, CacheUnavailableError
from service.follow.graph import load_folder
from service.follow.metrics import WorkerMetrics, serve_metrics
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.sources.source import Source
from service.follow.targets import Targets
from service.follow.worker import Tally, Worker
from service.observability.json_log import log_as_json
from service.settings import Settings, read_settings
from service.tools.dead_letters import dead_letter_lines

TIMEOUT_S = 10.0
EXIT_CODES = (
    "Exit codes: 0 after SIGTERM or SIGINT, the last batch finished; 1 if it cannot start; 2 if a setting or an "
    "argument is wrong."
)
log = logging.getLogger("service")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="follow this model only; may be given several times. Default: all. Give all workers the "
        "same: they share the events, and what one has read, no other folds.",
    ),
]
Once = Annotated[
    bool, typer.Option("--until-empty", help="end once no event waits and every user is caught up")
]
DeadLetters = Annotated[
    bool,
    typer.Option(
        "--dead-letters",
        help="print the newest 20 events of the cache that could not be folded, with time and reason, and end",
    ),
]


@app.command(epilog=EXIT_CODES)
def follow(
    model: Models = None, until_empty: Once = False, dead_letters: DeadLetters = False
) -> None:
    """Fold live events into users' states, so that the next request is scored with them.

    Events come from POST /v1/events of `absorb serve`, by the cache's stream, or from a Kafka topic
    (ABSORB_KAFKA_SERVERS and ABSORB_KAFKA_TOPIC; the extra `kafka`). States are made by the artifacts in
    ABSORB_ARTIFACT_DIR, and written to the cache at ABSORB_CACHE_URL. Run as many workers as you like, on any machine
    that has both: they share the events, and a worker that dies leaves nothing undone. Every 30 seconds it logs how
    many events it folded, and how many wait; with ABSORB_FOLLOW_METRICS_PORT it answers scrapes by Prometheus.

    Example: ABSORB_CACHE_URL=embedded: absorb follow
    """
    settings = read_settings()
    log_as_json(settings.log_level)
    if dead_letters:
        _print_dead_letters(settings.cache_url)
        return
    try:
        tally = run_worker(settings, model or [], until_empty=until_empty)
    except AbsorbError as error:
        sys.exit(str(error))
    log.info("stopped", extra={"events": tally.events, "dead": tally.dead})


def _print_dead_letters(url: str) -> None:
    try:
        client = connect(resolve_cache_url(url))
        for line in dead_letter_lines(client, redact_url(url)):
            typer.echo(line)
    except AbsorbError as error:
        sys.exit(str(error))


def run_worker(settings: Settings, models: list[str], *, until_empty: bool) -> Tally:
    """Work until a signal; returns what was done.

    Raises:
        CacheUnavailableError: the cache does not answer at the start.
        MetricsPortError: the port of the metrics is in use.
    """
    metrics = WorkerMetrics()
    if settings.follow_metrics_port is not None:
        port = serve_metrics(metrics, settings.host, settings.follow_metrics_port)
        log.info("metrics", extra={"host": settings.host, "port": port})
    client = connect(resolve_cache_url(settings.cache_url))
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    source = make_source(settings, client, name)
    root = Path(settings.artifact_dir)
    targets = Targets(client, lambda name: load_folder(root, name), models, time.monotonic, metrics)
    worker = Worker(client, source, targets, name=name)
    asked = _stop_signals()
    fields = {"cache": redact_url(settings.cache_url), "source": source.name, "models": models}
    log.info("follows events", extra=fields)
    worker.run(_until_empty(worker, source, asked) if until_empty else asked)
    worker.leave()
    targets.close()
    source.close()
    return worker.tally


def connect(url: str) -> Any:
    """A client of the cache.

    Raises:
        CacheUnavailableError: no server answers.
    """
    plain, is_cluster = split_cluster_url(url)
    limits = {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": TIMEOUT_S}
    try:
        client: Any = (RedisCluster if is_cluster else Redis).from_url(plain, **limits)
        client.ping()
        return client
    except ValueError:  # not quoted: the message may hold a part of the password
        raise CacheUnavailableError(redact_url(url), "not a cache URL") from None
    except (RedisError, RedisClusterException, OSError) as error:
        raise CacheUnavailableError(redact_url(url), str(error)) from error


def make_source(settings: Settings, client: Any, name: str) -> Source:
    """The source that the settings name, for the worker of a name."""
    if settings.kafka_servers is None:
        return RedisStreamSource(client, name)
    from service.follow.sources.kafka import KafkaSource  # an extra

    return KafkaSource(settings.kafka_servers, settings.kafka_topic, settings.kafka_options)


def _stop_signals() -> Callable[[], bool]:
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return lambda: bool(stopped)


def _until_empty(worker: Worker, source: Source, asked: Callable[[], bool]) -> Callable[[], bool]:
    """Stop by signal, or once nothing waits and nothing is left to catch up."""
    steps = iter(range(sys.maxsize))

    def is_done() -> bool:
        if asked():
            return True
        targets = worker.targets
        is_early = next(steps) < 2 or targets.is_loading
        return not is_early and source.waiting() == 0 and not any(targets.behind.values())

    return is_done


if __name__ == "__main__":
    app()
