"""Readers whose states are sums over events: SDIM, linear attention, mean, random features."""

import math

import pytest
import torch

from models.blocks.reading import Events
from models.readers.base import Reader
from models.readers.collisions import CollisionReader
from models.readers.features import RandomFeatures
from models.readers.kernel import KernelReader
from models.readers.pooling import LinearReader, MeanReader
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    assert_equals_loops,
    candidates,
    history,
    read,
    settled,
)
from tests.reference.attention import Answer, pooled
from tests.reference.sim_hash import collisions
from tests.reference.two_stage import dot, project

READERS = {
    "sdim": lambda: CollisionReader(LAYOUT.dim, 12, 2),
    "linear": lambda: LinearReader(LAYOUT.dim, 3, 2),
    "mean": lambda: MeanReader(LAYOUT.dim),
    "features": lambda: RandomFeatures(LAYOUT, 16, 2),
}


def by_weights(reader: Reader, events: Events, weight) -> "object":
    """Pools with weight(head, target, event) · g_h(age)."""
    worth = reader.ages(events.ages)  # type: ignore[operator]

    def loops(user: int, target: list[float]) -> Answer:
        vectors = events.vectors[user].tolist()
        weights = [
            [g * weight(head, target, e) for g, e in zip(gs, vectors, strict=True)]
            for head, gs in enumerate(worth[user].mT.tolist())
        ]
        return pooled(weights, [1.0] * LENGTH, vectors, LAYOUT.dim)

    return loops


def test_sdim_weighs_an_event_by_its_share_of_equal_signatures():
    reader, events, wanted = settled(READERS["sdim"]()), history(), candidates()
    assert isinstance(reader, CollisionReader)
    planes = reader.hash.planes.tolist()
    loops = by_weights(reader, events, lambda _, t, e: collisions(t, e, planes, 2))
    assert_equals_loops(read(reader, events, wanted), events, wanted, loops)  # type: ignore[arg-type]


def test_linear_attention_equals_its_equation():
    reader, events, wanted = settled(READERS["linear"]()), history(), candidates()
    assert isinstance(reader, LinearReader)
    matrices = reader.project.tolist()

    def feature(x: float) -> float:
        return x + 1 if x > 0 else math.exp(x)

    def weight(head: int, target: list[float], event: list[float]) -> float:
        query, key = (
            [feature(x) for x in project(vector, matrices[head])] for vector in (target, event)
        )
        return dot(query, key)

    loops = by_weights(reader, events, weight)
    assert_equals_loops(read(reader, events, wanted), events, wanted, loops)  # type: ignore[arg-type]


def test_the_mean_is_the_same_for_all_candidates():
    reader, events, wanted = settled(READERS["mean"]()), history(), candidates()
    got, worth = read(reader, events, wanted), reader.ages(events.ages)  # type: ignore[operator]
    total = (events.vectors * worth).sum(1)
    mean = total / (1 + worth.sum(1))
    torch.testing.assert_close(got.pooled[:, :, 0], mean[:, None].expand(-1, 5, -1))
    torch.testing.assert_close(got.mass, wanted.vectors @ total[..., None])


def test_many_random_features_come_near_the_kernel():
    torch.manual_seed(0)
    reader = RandomFeatures(LAYOUT, 1 << 14, 2).double()
    every = KernelReader(LENGTH, LAYOUT.widths, 2).double()
    events, wanted = history(), candidates()
    got, expected = read(reader, events, wanted), read(every, events, wanted)
    assert (got.mass - expected.mass).abs().max() < 0.25
    few = RandomFeatures(LAYOUT, 16, 2).double()
    gaps = [(read(r, events, wanted).mass - expected.mass).square().mean() for r in (reader, few)]
    assert gaps[0] < 0.05 * gaps[1]


@pytest.mark.parametrize("kind", READERS)
def test_states_add_up(kind: str):
    """The state of a history is the sum of the states of its halves."""
    reader, events = settled(READERS[kind]()), history()
    halves = [
        reader.encode(Events(events.rows * keep, events.ages * keep, events.look_up))
        for keep in (torch.arange(LENGTH) < 7, torch.arange(LENGTH) >= 7)
    ]
    for name, whole in reader.encode(events).items():
        torch.testing.assert_close(halves[0][name] + halves[1][name], whole)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected a tau that divides num_bits"):
        CollisionReader(LAYOUT.dim, 10, 3)
    with pytest.raises(ValueError, match="rank: got 6, expected a multiple of 2·heads = 4"):
        RandomFeatures(LAYOUT, 6, 2)
