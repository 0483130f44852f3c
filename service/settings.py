"""Settings of the service: `ABSORB_*` environment variables. The text below each field documents it for operators."""

import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic_core import to_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.contract.cache_url import EMBEDDED
from service.traffic_rules import Experiment, ShadowRule, read_shadows, read_split

HASH = re.compile("[0-9a-f]{64}")
GRPC_PACKAGES = {"grpcio": "grpc", "protobuf": "google.protobuf"}
"""Package of the extra `grpc` -> module that it installs."""


def _with_grpc(port: int) -> int:
    missing = [package for package, module in GRPC_PACKAGES.items() if not _is_installed(module)]
    if missing:
        names = " and ".join(missing)
        raise ValueError(
            f"unset, since {names} {'is' if len(missing) == 1 else 'are'} not installed: install the extra `grpc` of "
            "this project's wheel or checkout"
        )
    return port


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package of the module
        return False


def _hashes(text: str) -> str:
    """Check a list of hashes. The error does not repeat the value: it may be a key, which is a secret."""
    hashes = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not all(HASH.fullmatch(value) for value in hashes):
        raise ValueError(
            "SHA-256 hashes of keys, 64 hexadecimal digits each (python -m service.tools.keys)"
        )
    return ",".join(hashes)


class Settings(BaseSettings):
    """Everything that an operator can set. The environment is read here and nowhere else."""

    model_config = SettingsConfigDict(
        env_prefix="ABSORB_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    cache_url: str = EMBEDDED
    """Cache server: `redis://`, `rediss://` or `unix://`; `redis+cluster://` or `rediss+cluster://` for any node of a
    cluster; or `embedded:[folder]`, which starts a local server."""

    artifact_dir: Path = Path("var/artifacts")
    """Folder to which the builder writes its artifacts, one subfolder each."""

    max_artifacts: PositiveInt = 64
    """Most artifacts that each process has loaded, over all models; a generation beyond that does not serve."""

    max_artifact_bytes: PositiveInt = 4 << 30
    """Most bytes of the graphs, plans and vocabularies that each process has loaded, by their size on disk."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all interfaces."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port to listen on; 0 takes a free port, which the log states."""

    grpc_port: Annotated[int, Field(ge=0, le=65535), AfterValidator(_with_grpc)] | None = None
    """TCP port of the V2 protocol over gRPC; needs the extra `grpc`. Unset: gRPC is off. 0: a free port."""

    default_model: str | None = None
    """Model of requests that name none, of this service alone. Unset: the cache's (`absorb default MODEL`)."""

    max_candidates: PositiveInt = 5000
    """Most candidates in one request; a longer slate is rejected with status 400."""

    max_recent: PositiveInt = 1000
    """Most items in a request's `recent`, for each user; a longer list is rejected with status 400."""

    max_body_bytes: PositiveInt = 1 << 20
    """Largest request body in bytes, both as sent and decompressed; a larger one is rejected with status 413."""

    body_timeout_s: PositiveFloat = 10.0
    """Seconds that a request body may take to arrive; a slower one is rejected with status 408."""

    max_in_flight: PositiveInt = 64
    """Most requests scored at once; they share the scoring threads and wait for the cache at the same time."""

    max_queue: NonNegativeInt = 192
    """Most waiting requests; when full, the newest of the lowest priority is rejected with status 429."""

    max_queue_wait_ms: PositiveInt = 500
    """Milliseconds that a request may wait in the queue before it is rejected with status 429."""

    timeout_ms: PositiveInt = 5000
    """Deadline in milliseconds of requests that set none; a later answer is status 504."""

    max_timeout_ms: PositiveInt = 60_000
    """Longest deadline in milliseconds that a request may set; a longer one is shortened to this."""

    cache_timeout_ms: PositiveInt = 50
    """Milliseconds to wait for a user's record, connecting included; then the cold-start state is scored."""

    device_cache_bytes: NonNegativeInt = 1 << 30
    """Bytes of GPU memory in which each process keeps users' states, with the engine `torch` only; 0 keeps none."""

    host_cache_bytes: NonNegativeInt = 256 << 20
    """Bytes of decoded records that each process keeps in memory; 0 keeps none."""

    host_cache_ttl_s: PositiveFloat = 300.0
    """Seconds for which a record in memory is used; a record overwritten in the cache is seen after that."""

    host_cache_absent_ttl_s: PositiveFloat = 2.0
    """Seconds for which a user without a record is not looked up again."""

    max_events_waiting: PositiveInt = 1_000_000
    """Events in the stream, not yet folded by `absorb follow`, from which on new ones are rejected with status 429."""

    follow_metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """TCP port of the metrics of `absorb follow`, on `ABSORB_HOST`, without a key. Unset: off. 0: a free port, which
    the log states."""

    kafka_servers: str | None = None
    """Kafka brokers, `host:port,host:port`, from which `absorb follow` reads events. Unset: from the cache's stream."""

    kafka_topic: str = "absorb-events"
    """Topic of the events in Kafka; dead letters go to the topic of this name with `.dead` behind it."""

    kafka_options: dict[str, str] = Field(default={}, repr=False)
    """JSON object of further settings of librdkafka, such as `security.protocol` and `sasl.password`."""

    poll_interval_s: PositiveFloat = 1.0
    """Seconds between two reads of the generation pointers; a publish is noticed after at most that."""

    stale_after_s: PositiveInt | None = None
    """Age in seconds from which a record is stale: still scored, but flagged. So is one of more than 5 minutes in the
    future, whose age is not known. Unset: no record is stale."""

    num_threads: PositiveInt = 1
    """Threads per score; the number of cores divided by this is the number of scoring threads."""

    engine: Literal["auto", "onnxruntime", "native", "cuda", "torch"] = "auto"
    """Engine that scores. `auto`: for each model the fastest that runs here, fits it, and scores as ONNX Runtime does.
    Where the named engine does not, ONNX Runtime scores, and `/v1/models` says why."""

    processes: PositiveInt = 1
    """Processes that share the port, each with its own cache and limits; process N also listens on port + N."""

    api_keys: Annotated[str, AfterValidator(_hashes)] = ""
    """Comma-separated SHA-256 hashes, in hexadecimal, of the keys that may score. Unset: scoring needs no key."""

    admin_keys: Annotated[str, AfterValidator(_hashes)] = ""
    """The same for keys that may also administer. Unset: administration needs loopback and unset `api_keys`."""

    metrics_need_key: bool = False
    """Whether `/metrics` needs a key that may score. Health probes need no key."""

    allow_open: bool = False
    """Whether to start without `api_keys` on an address other than loopback, where something else controls access."""

    allowed_hosts: str = ""
    """Comma-separated names, without ports, that `Host` may have beside those of loopback and `ABSORB_HOST`. Unset: any
    name, but on a loopback address without `api_keys` none."""

    allowed_origins: str = ""
    """Comma-separated origins, as `https://shop.example`, of other sites' pages that may send POST requests. Unset:
    none, but with `api_keys` any."""

    tls_cert_file: FilePath | None = None
    """PEM file of the TLS certificate and its chain; with the key file, the service accepts TLS only."""

    tls_key_file: FilePath | None = None
    """PEM file of the certificate's private key, without a passphrase."""

    drain_delay_s: NonNegativeFloat = 5.0
    """Seconds after SIGTERM during which readiness says 503 while requests are still accepted."""

    drain_limit_s: PositiveInt = 30
    """Seconds after that for requests in flight to finish; wait for the sum of both before killing the process."""

    inline_ms: NonNegativeFloat = 0.15
    """Milliseconds, as measured on the latest slates of that size, up to which a slate is scored without a thread, on
    the event loop, which does nothing else meanwhile. A thread costs about half of the default. 0: always a thread."""

    inline_alone_ms: NonNegativeFloat = 2.0
    """The same for a slate that is the only one in the process, if the engine lets idle threads share it (`native`):
    waking a thread costs such a slate time and saves no other any. 0: as `ABSORB_INLINE_MS`."""

    batch_max_requests: PositiveInt | None = None
    """Most requests joined into one run of the score graph; 1 joins none. Unset: 16 on a GPU, 1 on a CPU."""

    batch_max_candidates: PositiveInt = 16384
    """Most candidates in one joined run, where every slate is padded to the longest."""

    batch_wait_ms: NonNegativeFloat = 0.0
    """Milliseconds to wait for more requests to join although a thread is free."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""

    access_log: Literal["off", "DEBUG", "INFO"] = "off"
    """Level of the line logged per request: route, status, times, model, request id, trace id."""

    log_user_ids: bool = False
    """Whether the access log contains user ids."""

    slow_ms: PositiveFloat | None = None
    """Milliseconds from which a scoring request is captured, with its body and answer. Unset: captures none."""

    slow_dir: Path | None = None
    """Folder to which captured requests are written, at most 16 MiB. Unset: only `GET /v1/slow` shows them."""

    warm_up_slates: tuple[PositiveInt, ...] = (200,)
    """Numbers of candidates that a generation scores before it serves, as JSON."""

    warm_up_file: Path | None = None
    """File of captured requests (`ABSORB_SLOW_DIR`) that a generation scores before it serves. Unset: none."""

    split: Annotated[dict[str, Experiment], NoDecode, BeforeValidator(read_split)] = {}
    """Experiments, as JSON or the path of a file: `{"home": {"weights": {"lrea": 9, "din": 1}, "default": true}}`."""

    shadow: Annotated[tuple[ShadowRule, ...], NoDecode, BeforeValidator(read_shadows)] = ()
    """Shadow models, as JSON or the path of a file: `[{"model": "lrea", "shadow": "din", "share": 0.1}]`."""


SECRET_FIELDS = frozenset({"api_keys", "admin_keys", "cache_url"})
"""Errors do not repeat the values of these fields."""


def is_trace_exporter_named() -> bool:
    """Whether OpenTelemetry's own variables name a trace exporter. The SDK reads all `OTEL_*` variables itself."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_none = os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    return not (is_off or is_none) and any(os.environ.get(name) for name in named)


def read_settings() -> Settings:
    """Settings from the environment. Exits with status 2 and a line per wrong variable on stderr."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "ABSORB_" + "_".join(str(part) for part in problem["loc"]).upper()
            is_secret = problem["loc"][0] in SECRET_FIELDS if problem["loc"] else False
            got = "another value" if is_secret else repr(problem["input"])
            sys.stderr.write(f"{name}: got {got}, expected: {problem['msg']}\n")
        sys.exit(2)


def describe_settings() -> Iterator[tuple[str, str, str]]:
    """Variable, default and description of every setting, in the order of the fields."""
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default in (None, "") else _as_written(field.default)
        yield f"ABSORB_{name.upper()}", default, " ".join((field.description or "").split())


def _as_written(default: object) -> str:
    """A default as an environment variable states it."""
    return default if isinstance(default, str) else to_json(default).decode().strip('"')
