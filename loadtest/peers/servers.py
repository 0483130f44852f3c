"""The servers of the bench: how each is started, its wire formats, and numbers of workers to try."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Wire = Literal["json", "v2", "v2-binary"]
MODEL = "lrea"
"""The published model that every server serves."""
AUTO = "auto"
"""`ABSORB_ENGINE` of the default configuration: the service picks the engine when it loads the model."""
ENGINES = ("onnxruntime", "native")
"""Engines of the service that run on a CPU."""
SAME_GRAPH = 1e-6
OTHER_ENGINE = 1e-5
"""Engines add in another order."""
BARE = "bare"
"""Name of the row of ONNX Runtime alone, in process, which runs the graph as it was published."""


def bare_row(engine: str) -> str:
    """Name of the row of an engine's call alone, in process."""
    return f"{BARE}-{engine}"


BARES = {
    BARE: "ONNX Runtime alone, the published graph",
    **{bare_row(engine): f"engine {engine} alone" for engine in ENGINES},
}
"""Row of a call in process, without a server -> title."""


@dataclass(frozen=True)
class Route:
    """One endpoint and wire format of a server: a row of the table.

    Attributes:
        name: name of the row.
        path: path of the URL.
        wire: format of request and answer.
        tolerance: largest allowed difference between a score and that of the published graph, run in process.
    """

    name: str
    path: str
    wire: Wire
    tolerance: float = SAME_GRAPH


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: name of its folder, and for `--only`.
        title: title in the table.
        routes: its rows.
        command: words with `{bin}` (of its environment), `{here}` (its folder), `{port}`, `{workers}`.
        workers: numbers of workers to try; the best is taken.
        package: package whose version is reported; None: this repository.
        is_general: a general server, which Absorb's throughput must beat by a factor.
        on_system_python: needs Debian's interpreter.
        engine: for Absorb, the engine that must score, or `AUTO`; None: another server.
        environment: environment variables; values may contain the same fields as `command`.
    """

    name: str
    title: str
    routes: tuple[Route, ...]
    command: str
    workers: tuple[int, ...] = (1, 2)
    package: str | None = None
    is_general: bool = True
    on_system_python: bool = False
    engine: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


V2_PATH = "/v2/models/ranker/infer"


PEERS: tuple[Server, ...] = (
    Server(
        "fastapi",
        "FastAPI alone",
        (Route("fastapi", "/score", "json"),),
        "{bin}/uvicorn loadtest.peers.fastapi.server:app --port {port} --workers {workers}"
        " --loop uvloop --http httptools --no-access-log --log-level warning",
        package="fastapi",
        is_general=False,
    ),
    Server(
        "mlserver",
        "MLServer",
        (Route("mlserver", V2_PATH, "v2"),),
        "{bin}/mlserver start {here}",
        workers=(0, 1, 2),  # 0: inference in the server's own process
        package="mlserver",
        environment={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port1}",
            "MLSERVER_METRICS_PORT": "{port2}",
            "MLSERVER_PARALLEL_WORKERS": "{workers}",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_ENVIRONMENTS_DIR": "{work}/environments",
            "MLSERVER_METRICS_DIR": "{work}/metrics",
        },
    ),
    Server(
        "bentoml",
        "BentoML",
        (Route("bentoml", "/score", "json"),),
        "{bin}/bentoml serve loadtest.peers.bentoml.server:RankerService --port {port}"
        " --host 127.0.0.1 --arg workers={workers}",
        package="bentoml",
        environment={"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": "{work}/home"},
    ),
    Server(
        "litserve",
        "LitServe",
        (Route("litserve", "/predict", "json"),),
        "{bin}/python {here}/server.py {port} {workers}",
        package="litserve",
    ),
    Server(
        "ray",
        "Ray Serve",
        (Route("ray", "/score", "json"),),
        "{bin}/python {here}/server.py {port} {workers}",
        package="ray",
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # by default replicas have a lower priority than the load generator
            "RAY_AUTH_MODE": "disabled",  # otherwise it writes a token into the home folder
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # it needs HAProxy, which is not in the wheel
        },
    ),
    Server(
        "triton",
        "Triton (PyTriton)",
        (Route("triton", V2_PATH, "v2"), Route("triton-binary", V2_PATH, "v2-binary")),
        "{bin}/python {here}/server.py {port} {workers}",
        package="nvidia-pytriton",
        on_system_python=True,
    ),
)
"""The servers that Absorb is measured against."""


_SERVICE = "{bin}/python -m service"
_SETTINGS = {
    "ABSORB_HOST": "127.0.0.1",
    "ABSORB_PORT": "{port}",
    "ABSORB_LOG_LEVEL": "WARNING",
    "ABSORB_PROCESSES": "{workers}",
}


def _with_engine(engine: str) -> Server:
    name = f"absorb-{engine}"
    return Server(
        name,
        f"Absorb, engine set to {engine}",
        (Route(name, "/v1/score", "json", OTHER_ENGINE),),
        _SERVICE,
        engine=engine,
        environment={**_SETTINGS, "ABSORB_ENGINE": engine},
    )


ABSORBS: tuple[Server, ...] = (
    Server(
        "absorb",
        "Absorb",
        (
            Route("absorb", "/v1/score", "json", OTHER_ENGINE),
            Route("absorb-v2", f"/v2/models/{MODEL}/infer", "v2", OTHER_ENGINE),
            Route("absorb-v2-binary", f"/v2/models/{MODEL}/infer", "v2-binary", OTHER_ENGINE),
        ),
        _SERVICE,
        engine=AUTO,
        environment=_SETTINGS,
    ),
    Server(
        "absorb-redis",
        "Absorb, no host tier",
        (Route("absorb-redis", "/v1/score", "json", OTHER_ENGINE),),
        _SERVICE,
        engine=AUTO,
        environment={**_SETTINGS, "ABSORB_HOST_CACHE_BYTES": "0"},
    ),
    *map(_with_engine, ENGINES),
)
"""Absorb with its defaults, by each of its protocols; without the cache tier in its own memory; with each engine."""
