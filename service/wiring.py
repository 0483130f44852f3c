"""The real parts of a service, made from its settings and joined: the same for the process and for the tests."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from models.contract.cache_url import split_cluster_url
from service.app import Behind, create_app
from service.experiments.metrics import TrafficMetrics
from service.experiments.shadow import Shadows
from service.experiments.split import Traffic
from service.generations.follower import Follower
from service.generations.heartbeat import Heartbeat
from service.generations.selection import Selection
from service.generations.serving import Loader
from service.observability.metrics import Telemetry
from service.observability.request_log import Watch
from service.observability.tracing import Tracing
from service.process.cores import num_cores
from service.process.warm_up import WarmUp
from service.runtime.batcher import Batcher, BatchLimits
from service.runtime.readiness import Readiness
from service.runtime.scorer import CUDA, runtime_providers
from service.runtime.workers import Workers
from service.scoring.compute import Job, Scored, compute
from service.scoring.gate import Gate
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.build import Tiers, build_tiers
from service.store.cluster import ClusterStore
from service.store.redis import RedisStore, StateStore
from service.v2.data_plane import Plane

if TYPE_CHECKING:
    from service.v2.grpc_server import GrpcDoor

REQUESTS_OF_A_GPU_BATCH = 16


@dataclass(frozen=True)
class Parts:
    """One service's parts. The application closes those that its lifespan opened."""

    settings: Settings
    telemetry: Telemetry
    store: StateStore
    tiers: Tiers
    selection: Selection
    follower: Follower
    workers: Workers
    pipeline: Pipeline
    plane: Plane
    readiness: Readiness
    app: FastAPI
    door: "GrpcDoor | None"

    def close_other_door(self) -> None:
        """Begin to close what is open beside HTTP."""
        if self.door is not None:
            self.door.begin_to_close()


def build_parts(
    settings: Settings,
    cache_url: str,
    registry: CollectorRegistry,
    clock: Callable[[], float],
    tracing: Tracing | None = None,
) -> Parts:
    """Make every part and hand it to those that need it.

    Args:
        settings: from the environment, or a test's.
        cache_url: as redis-py understands it (`resolve_cache_url`).
        registry: of the metrics.
        clock: gives the epoch second.
        tracing: begins spans; None: there are none.
    """
    store = _open_store(cache_url, settings.cache_timeout_ms / 1000)
    telemetry = Telemetry(registry, clock)
    selection = Selection(settings.default_model)
    num_workers = max(1, num_cores() // settings.num_threads)
    workers = Workers(num_workers)
    tiers = build_tiers(settings, store, registry, workers, clock)
    traffic_metrics = TrafficMetrics(registry)
    traffic = Traffic(settings.split, selection, traffic_metrics)
    shadows = Shadows(settings.shadow, selection, traffic_metrics)
    gate = Gate(settings, workers, telemetry, _batcher(settings, workers, num_workers, telemetry))
    pipeline = Pipeline(settings, selection, tiers, telemetry, gate, traffic, shadows)
    follower = _follower(settings, store, selection, tiers, pipeline, telemetry)
    readiness = Readiness(pipeline.probe, workers)
    telemetry.ready.set_function(readiness.is_ready)
    plane = Plane(pipeline, selection, follower, readiness, settings, clock)
    watch = Watch(telemetry, settings, tracing)
    door = None if settings.grpc_port is None else _grpc_door(plane, watch, settings)
    behind = Behind(
        settings, tiers, selection, follower, pipeline, telemetry, plane, tracing, watch, door
    )
    app = create_app(behind)
    return Parts(
        settings,
        telemetry,
        store,
        tiers,
        selection,
        follower,
        workers,
        pipeline,
        plane,
        readiness,
        app,
        door,
    )


def _follower(
    settings: Settings,
    store: StateStore,
    selection: Selection,
    tiers: Tiers,
    pipeline: Pipeline,
    telemetry: Telemetry,
) -> Follower:
    heartbeat = Heartbeat(store, selection)
    loader = Loader(settings.artifact_dir, settings.num_threads)
    warm_up = WarmUp(settings.warm_up_slates, settings.warm_up_file, pipeline.rehearse)
    on_swap = tiers.states.swapped
    return Follower(store, selection, heartbeat, loader, telemetry, on_swap, warm_up.run)


def _batcher(
    settings: Settings, workers: Workers, num_workers: int, telemetry: Telemetry
) -> Batcher[Job, Scored] | None:
    """None where requests are not joined: on a CPU a run's time goes with its candidates."""
    default = REQUESTS_OF_A_GPU_BATCH if CUDA in runtime_providers() else 1
    requests = settings.batch_max_requests or default
    if requests == 1:
        return None
    cells = max(settings.batch_max_candidates, settings.max_candidates)
    wait_s = settings.batch_wait_ms / 1000
    limits = BatchLimits(requests, cells, settings.max_in_flight, wait_s, num_workers)

    def start(jobs: Sequence[Job]) -> "Future[list[Scored | Exception]]":
        return workers.submit(compute, jobs)

    return Batcher(start, limits, telemetry.batch_size.observe)


def _open_store(url: str, timeout_s: float) -> StateStore:
    kind = ClusterStore if split_cluster_url(url)[1] else RedisStore
    return kind(url, timeout_s)


def _grpc_door(plane: Plane, watch: Watch, settings: Settings) -> "GrpcDoor":
    from service.v2.grpc_server import GrpcDoor  # here: grpc is an extra, and may not be installed

    return GrpcDoor(plane, watch, settings)
