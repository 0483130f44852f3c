"""How many events one worker folds in a second, with each folder that an artifact allows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.fresh.world import World
from models.contract.artifact import ENCODE, EVENT
from models.live.ages import Ages
from models.live.choose import choose_folder
from models.live.event import Event
from models.live.fold import Folder, ReEncode
from models.live.keys import EVENT_FIELD, IN_KEY
from service.follow.graph import Loaded, encoder
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.targets import Targets
from service.follow.worker import BATCH_EVENTS, Worker

WAIT_S = 0.05


@dataclass(frozen=True)
class Throughput:
    """One folder.

    Attributes:
        folder: its name.
        events: events that were folded.
        users: records that were written for them.
        seconds: how long it took.
    """

    folder: str
    events: int
    users: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.seconds


def measure(world: World, limit_s: float, max_events: int) -> list[Throughput]:
    """Fold with each folder in turn, in this process, for at most `limit_s` seconds each.

    Args:
        world: cache and users.
        limit_s: a measurement ends after the first batch beyond it.
        max_events: number of events that wait at the start.
    """
    return [_measure(world, folder, limit_s, max_events) for folder in folders(world)]


def folders(world: World) -> Sequence[Folder]:
    """Every folder that the artifact allows."""
    artifact, manifest = world.artifact, world.artifact.manifest
    encode = encoder(artifact.graph(ENCODE))
    event = encoder(artifact.graph(EVENT)) if EVENT in manifest.files else None
    chosen = choose_folder(manifest, encode, event)
    ages = Ages(manifest.request_gap_s)
    every = [chosen, ReEncode(manifest.schema, manifest.state_spec, encode, ages)]
    return list({folder.name: folder for folder in reversed(every)}.values())


def _measure(world: World, folder: Folder, limit_s: float, max_events: int) -> Throughput:
    source = RedisStreamSource(world.client, f"bench-{folder.name}")
    targets = Targets(world.client, lambda _: Loaded(world.artifact, folder), [], time.monotonic)
    worker = Worker(world.client, source, targets)
    world.client.delete(IN_KEY)
    while not targets.folded or targets.is_loading or any(targets.behind.values()):
        worker.step(WAIT_S)
    _fill(world, max_events)
    before = worker.tally.events, worker.tally.users
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < limit_s and worker.step() > 0:
        pass
    seconds = time.perf_counter() - began_s
    targets.close()
    world.client.delete(IN_KEY)
    events, users = worker.tally.events - before[0], worker.tally.users - before[1]
    return Throughput(folder.name, events, users, seconds)


def _fill(world: World, number: int) -> None:
    rng = np.random.default_rng(2)
    now_s = int(time.time())
    items = world.items(rng, number)
    users = rng.integers(0, len(world.users), number)
    for start in range(0, number, BATCH_EVENTS):
        with world.client.pipeline(transaction=False) as pipeline:
            for place in range(start, min(start + BATCH_EVENTS, number)):
                name = f"bench-{rng.integers(1 << 62)}"
                event = Event(name, world.users[users[place]], items[place], now_s)
                pipeline.xadd(IN_KEY, {EVENT_FIELD: event.to_bytes()})
            pipeline.execute()
