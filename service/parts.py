"""The real parts of a service, made from its settings and joined: the same for the process and for the tests."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from models.cache_server import split_cluster_url
from service.app import create_app
from service.cluster_store import ClusterStore
from service.generation import Follower
from service.pipeline import Pipeline
from service.readiness import Readiness
from service.settings import Settings
from service.shadow import Shadows
from service.store import RedisStore, StateStore
from service.telemetry import Telemetry
from service.tiers.tiers import Tiers, build_tiers
from service.tracing import Tracing
from service.traffic import Traffic
from service.v2.plane import Plane
from service.workers import Workers

if TYPE_CHECKING:
    from service.v2.grpc_door import GrpcDoor


@dataclass(frozen=True)
class Parts:
    """One service's parts. The application closes those that its lifespan opened."""

    settings: Settings
    telemetry: Telemetry
    store: StateStore
    tiers: Tiers
    follower: Follower
    workers: Workers
    pipeline: Pipeline
    plane: Plane
    readiness: Readiness
    app: FastAPI


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
    follower = Follower(
        store, telemetry, settings.artifact_dir, settings.num_threads, settings.default_model
    )
    num_workers = max(1, (os.cpu_count() or 1) // settings.num_threads)
    workers = Workers(num_workers)
    tiers = build_tiers(settings, store, registry, workers, clock)
    follower.on_swap = tiers.states.swapped
    traffic = Traffic(settings.split, follower, telemetry.traffic)
    shadows = Shadows(settings.shadow, follower, telemetry.traffic)
    pipeline = Pipeline(
        settings, follower, store, tiers.states, telemetry, workers, traffic, shadows
    )
    readiness = Readiness(pipeline.probe, workers)
    plane = Plane(pipeline, follower, readiness, settings, clock)
    door = None if settings.grpc_port is None else _grpc_door(plane, telemetry, settings)
    app = create_app(settings, tiers, follower, pipeline, telemetry, plane, tracing, door)
    return Parts(
        settings, telemetry, store, tiers, follower, workers, pipeline, plane, readiness, app
    )


def _open_store(url: str, timeout_s: float) -> StateStore:
    kind = ClusterStore if split_cluster_url(url)[1] else RedisStore
    return kind(url, timeout_s)


def _grpc_door(plane: Plane, telemetry: Telemetry, settings: Settings) -> "GrpcDoor":
    from service.v2.grpc_door import GrpcDoor  # here: grpc is an extra, and may not be installed

    return GrpcDoor(plane, telemetry, settings)
