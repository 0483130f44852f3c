"""Settings of the service: `ABSORB_*` environment variables, each with a sentence saying what it does."""

import os
import re
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
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.contract.cache_url import EMBEDDED
from service.traffic_rules import Experiment, ShadowRule, read_shadows, read_split

HASH = re.compile("[0-9a-f]{64}")


def _with_grpc(port: int) -> int:
    if find_spec("grpc") is None:
        raise ValueError("the extra `grpc` to be installed: pip install 'absorb[grpc]'")
    return port


def _hashes(said: str) -> str:
    """Refuse what is no list of hashes, such as a key itself. Says nothing of what it was: that may be a secret."""
    hashes = [one.strip().lower() for one in said.split(",") if one.strip()]
    if not all(HASH.fullmatch(one) for one in hashes):
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
    """Where the cache is: `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://` (any node of a
    cluster), or `embedded:[folder]`, which starts a local server."""

    artifact_dir: Path = Path("var/artifacts")
    """Folder in which the builder leaves its artifacts, one subfolder each."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port to listen on; 0 takes a free one, which the log names."""

    grpc_port: Annotated[int, Field(ge=0, le=65535), AfterValidator(_with_grpc)] | None = None
    """TCP port of the V2 protocol over gRPC, which needs the extra `grpc`; unset: none, 0: a free one."""

    default_model: str | None = None
    """Model of requests that name none; unset: `lrea` if it is published, else the first by name."""

    max_candidates: PositiveInt = 5000
    """Candidates in one request; a longer slate is refused with status 400."""

    max_body_bytes: PositiveInt = 1 << 20
    """Bytes of a request's body, chunked or not, as sent and unpacked; a longer one is refused with status 413."""

    body_timeout_s: PositiveFloat = 10.0
    """Seconds that a request's body may take to arrive; a slower one is refused with status 408."""

    max_in_flight: PositiveInt = 64
    """Requests that are scored at once; they share the scoring threads, and wait for the cache at the same time."""

    max_queue: NonNegativeInt = 192
    """Requests that wait for a place; one more is refused with status 429, or one of a lower priority is."""

    max_queue_wait_ms: PositiveInt = 500
    """Milliseconds that a request waits for a place; then it is refused with status 429."""

    timeout_ms: PositiveInt = 5000
    """Milliseconds in which a request is answered that does not say how long it waits; then it gets status 504."""

    max_timeout_ms: PositiveInt = 60_000
    """Milliseconds that a request may ask to wait; more is taken as this."""

    cache_timeout_ms: PositiveInt = 50
    """Milliseconds to wait for a user's record, connecting included; then the cold-start state is used."""

    host_cache_bytes: NonNegativeInt = 256 << 20
    """Bytes of decoded records that each process keeps in memory before the cache; 0 keeps none."""

    host_cache_ttl_s: PositiveFloat = 300.0
    """Seconds for which a kept record is used: how long one that is overwritten in place stays unseen."""

    host_cache_absent_ttl_s: PositiveFloat = 2.0
    """Seconds for which a user whom the cache did not hold is not looked up again."""

    poll_interval_s: PositiveFloat = 1.0
    """Seconds between two looks at the generation pointers: how long after a publish the old one still serves."""

    stale_after_s: PositiveInt | None = None
    """Seconds after which a record is stale: scored, but flagged. Unset: never, since logs may be years old."""

    num_threads: PositiveInt = 1
    """Threads that one score uses; cores divided by this many requests are scored at the same time."""

    processes: PositiveInt = 1
    """Processes behind the port, each a whole service, with its own cache and limits; number N has port + N, too."""

    api_keys: Annotated[str, AfterValidator(_hashes)] = ""
    """SHA-256 hashes of the keys that may score, in hexadecimal, with commas between; unset: nobody needs one."""

    admin_keys: Annotated[str, AfterValidator(_hashes)] = ""
    """The same for what changes the service; these may score, too. Unset: done on loopback if nobody needs a key."""

    metrics_need_key: bool = False
    """Whether `/metrics` needs a key, as scoring does. Probes never do."""

    allow_open: bool = False
    """Whether to start on another address than loopback without `api_keys`: something else decides who gets here."""

    tls_cert_file: FilePath | None = None
    """PEM file of the certificate and those that signed it; with it and its key the service speaks TLS only."""

    tls_key_file: FilePath | None = None
    """PEM file of the certificate's private key, without a passphrase."""

    drain_delay_s: NonNegativeFloat = 5.0
    """Seconds after SIGTERM in which everything is served but readiness says 503: until nobody sends anything here."""

    drain_limit_s: PositiveInt = 30
    """Seconds after that in which requests in flight may finish; whoever kills the process waits for the sum."""

    batch_max_requests: PositiveInt | None = None
    """Most requests joined into one run of the score graph; 1: each runs alone; unset: 16 on a GPU, 1 on a CPU."""

    batch_max_candidates: PositiveInt = 16384
    """Most candidates in one such run, where every slate counts as long as the longest."""

    batch_wait_ms: NonNegativeFloat = 0.0
    """Milliseconds to wait for others to join while a thread is free; those that wait for one are joined anyway."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""

    access_log: Literal["off", "DEBUG", "INFO"] = "off"
    """Level at which one line is logged for each request: route, status, times, model, request id, trace id."""

    log_user_ids: bool = False
    """Whether the access log names users."""

    slow_ms: PositiveFloat | None = None
    """Milliseconds from which a scoring request is kept, body and answer with it; unset: none is."""

    slow_dir: Path | None = None
    """Folder of the file to which slow requests are written, 16 MiB at most; unset: `GET /v1/slow` alone has them."""

    warm_up_slates: tuple[PositiveInt, ...] = (200,)
    """Numbers of candidates that a generation scores before it serves, as JSON."""

    warm_up_file: Path | None = None
    """File of captured requests (`ABSORB_SLOW_DIR`) that a generation scores before it serves; unset: none."""

    split: Annotated[dict[str, Experiment], NoDecode, BeforeValidator(read_split)] = {}
    """Experiments, as JSON or a file of it: `{"home": {"weights": {"lrea": 9, "din": 1}, "default": true}}`."""

    shadow: Annotated[tuple[ShadowRule, ...], NoDecode, BeforeValidator(read_shadows)] = ()
    """Shadows, as JSON or a file of it: `[{"model": "lrea", "shadow": "din", "share": 0.1}]`."""


SECRET_FIELDS = frozenset({"api_keys", "admin_keys", "cache_url"})
"""What was given for these is not repeated where it is wrong."""


def is_trace_exporter_named() -> bool:
    """Whether OpenTelemetry's own variables name where traces go; the SDK reads these and the others itself."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_none = os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    return not (is_off or is_none) and any(os.environ.get(name) for name in named)
