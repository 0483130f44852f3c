"""Makes the dependencies of a service from its settings. The process and the tests use the same function."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from models.contract.artifact import Artifact
from models.contract.cache_url import split_cluster_url
from service.app import Dependencies
from service.experiments.metrics import TrafficMetrics
from service.experiments.shadow import Shadows
from service.experiments.split import Traffic
from service.generations.follower import Follower
from service.generations.heartbeat import Heartbeat
from service.generations.new_items import NewItemMetrics, NewItemRegistry
from service.generations.room import Room
from service.generations.selection import Selection
from service.generations.serving import Loader, Serving
from service.observability.engine_metrics import EngineMetrics
from service.observability.metrics import Telemetry
from service.observability.request_log import RequestLog
from service.observability.tracing import Tracing
from service.process.cores import num_cores
from service.process.warm_up import WarmUp
from service.runtime.batcher import Batcher, BatchLimits
from service.runtime.readiness import Readiness
from service.runtime.scorer import Scored, Scorer, Slate
from service.runtime.workers import Workers
from service.scoring.admission import Admission
from service.scoring.compute import Dispatcher, SlateBatcher
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.build import Tiers, build_tiers
from service.store.cluster import ClusterStore
from service.store.event_log import EventLog
from service.store.forgetting import Forgetting
from service.store.redis import RedisStore, StateStore
from service.transport.exchange import Arrivals
from service.transport.parser_thread import ParserThread
from service.v2.data_plane import DataPlane

if TYPE_CHECKING:
    from service.v2.grpc_server import GrpcServer

GPU_BATCH_REQUESTS = 16
"""Requests of one call of an engine on a GPU if the settings do not say."""


def build_dependencies(
    settings: Settings,
    cache_url: str,
    registry: CollectorRegistry,
    clock: Callable[[], float],
    tracing: Tracing | None = None,
) -> Dependencies:
    """Make every part of a service and hand it to those that need it.

    Args:
        settings: settings from the environment, or made by a test.
        cache_url: URL that redis-py understands (`resolve_cache_url`).
        registry: registry of the metrics.
        clock: gives the epoch second.
        tracing: begins spans; None: traces are off.
    """
    store = _open_store(cache_url, settings.cache_timeout_ms / 1000)
    telemetry = Telemetry(registry, clock)
    selection = Selection(settings.default_model)
    num_workers = max(1, num_cores() // settings.num_threads)
    workers = Workers(num_workers)
    admission = _admission(settings, telemetry)
    tiers = build_tiers(settings, store, registry, workers, clock, lambda: admission.waiting > 0)
    batcher = _batcher(settings, workers, num_workers, telemetry)
    arrivals = Arrivals()
    pipeline = _pipeline(
        settings, selection, tiers, telemetry, admission, workers, batcher, arrivals
    )
    new_items = NewItemRegistry(store, selection, NewItemMetrics(registry), clock)
    follower = _follower(settings, store, selection, tiers, pipeline, telemetry, new_items)
    readiness = Readiness(pipeline.probe, workers)
    telemetry.ready.set_function(readiness.is_ready)
    parsers = ParserThread(telemetry.rejected)
    data_plane = DataPlane(
        pipeline, selection, follower, readiness, parsers, settings, clock, tiers.follow
    )
    request_log = RequestLog(telemetry, settings, tracing)
    return Dependencies(
        settings=settings,
        telemetry=telemetry,
        tiers=tiers,
        selection=selection,
        follower=follower,
        new_items=new_items,
        forgetting=Forgetting(cache_url),
        workers=workers,
        readiness=readiness,
        parsers=parsers,
        pipeline=pipeline,
        arrivals=arrivals,
        data_plane=data_plane,
        events=EventLog(store, settings.max_events_waiting),
        tracing=tracing,
        request_log=request_log,
        grpc_server=_grpc_server(data_plane, request_log, parsers, settings),
    )


def _admission(settings: Settings, telemetry: Telemetry) -> Admission:
    max_wait_s = settings.max_queue_wait_ms / 1000
    admission = Admission(
        settings.max_in_flight, settings.max_queue, max_wait_s, telemetry.rejected
    )
    telemetry.in_flight.set_function(lambda: admission.in_flight)
    telemetry.queue_depth.set_function(lambda: admission.waiting)
    return admission


def _pipeline(
    settings: Settings,
    selection: Selection,
    tiers: Tiers,
    telemetry: Telemetry,
    admission: Admission,
    workers: Workers,
    batcher: SlateBatcher | None,
    arrivals: Arrivals,
) -> Pipeline:
    # A CPU's time is proportional to the candidates anyway: joining there is only for those who asked for it.
    is_joining_on_cpu = settings.batch_max_requests is not None
    inline_s, alone_s = settings.inline_ms / 1000, settings.inline_alone_ms / 1000
    dispatcher = Dispatcher(
        workers, admission, batcher, is_joining_on_cpu, inline_s, alone_s, arrivals.number
    )
    metrics = TrafficMetrics(telemetry.registry)
    traffic = Traffic(settings.split, selection, metrics) if settings.split else None
    shadows = Shadows(settings.shadow, selection, metrics)
    return Pipeline(settings, selection, tiers, telemetry, admission, dispatcher, traffic, shadows)


def _follower(
    settings: Settings,
    store: StateStore,
    selection: Selection,
    tiers: Tiers,
    pipeline: Pipeline,
    telemetry: Telemetry,
    new_items: NewItemRegistry,
) -> Follower:
    heartbeat = Heartbeat(store, selection)
    room = Room(settings.artifact_dir, settings.max_artifacts, settings.max_artifact_bytes)
    engines = EngineMetrics(telemetry.registry)
    loader = Loader(settings.artifact_dir, partial(_open_scorer, settings, engines), room)
    warm_up = WarmUp(settings.warm_up_slates, settings.warm_up_file, pipeline.rehearse)

    def on_swap(old: Serving | None, new: Serving | None) -> None:
        tiers.states.swapped(old, new)
        _note_engine(engines, old, new)

    return Follower(store, selection, heartbeat, loader, telemetry, on_swap, warm_up.run, new_items)


def _open_scorer(
    settings: Settings, engines: EngineMetrics, model: str, artifact: Artifact
) -> Scorer:
    return Scorer(
        artifact, settings.num_threads, settings.engine, partial(engines.fell_back, model)
    )


def _note_engine(engines: EngineMetrics, old: Serving | None, new: Serving | None) -> None:
    if new is not None:
        choice = new.scorer.choice
        engine = choice.engine
        engines.chosen(new.generation.model, engine.name, engine.device, choice.reason)
    elif old is not None:
        engines.unloaded(old.generation.model)


def _batcher(
    settings: Settings, workers: Workers, num_workers: int, telemetry: Telemetry
) -> SlateBatcher | None:
    """Make the batcher; None if every slate runs alone."""
    requests = settings.batch_max_requests or GPU_BATCH_REQUESTS
    if requests == 1:
        return None
    cells = max(settings.batch_max_candidates, settings.max_candidates)
    wait_s = settings.batch_wait_ms / 1000
    limits = BatchLimits(requests, cells, settings.max_in_flight, wait_s, num_workers)

    def start(scorer: Scorer, slates: Sequence[Slate]) -> "Future[list[Scored | Exception]]":
        return workers.submit(scorer.score_many, slates)

    return Batcher(start, limits, telemetry.batch_size.observe)


def _open_store(url: str, timeout_s: float) -> RedisStore | ClusterStore:
    kind = ClusterStore if split_cluster_url(url)[1] else RedisStore
    return kind(url, timeout_s)


def _grpc_server(
    data_plane: DataPlane, request_log: RequestLog, parsers: ParserThread, settings: Settings
) -> "GrpcServer | None":
    if settings.grpc_port is None:
        return None
    # gRPC reads it when it is imported. Its own lines are no JSON, and every client can cause some.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from service.v2.grpc_server import GrpcServer  # here: the extra `grpc` may not be installed

    return GrpcServer(data_plane, request_log, parsers, settings)
