"""Batches depend on the seed and the step alone; all slates come once before any comes again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from builder.dataset.parts import batch_source, part_slates
from builder.ingest.run import ingest
from builder.train.feed import Feed
from tests.builds import small_recipe


@pytest.fixture(scope="module")
def feed() -> Feed:
    recipe = small_recipe()
    events = ingest(recipe)
    source, slates = batch_source(events, recipe, "train"), part_slates(events, recipe, "train")
    return Feed(source, slates, size=7, seed=3)


def test_a_batch_depends_on_seed_and_step_alone(feed) -> None:
    in_turn = list(feed.batches(0, 6, torch.device("cpu")))
    alone = feed.batch(5)
    other = replace(feed, seed=4).batch(5)

    assert torch.equal(in_turn[5].slate.items, alone.slate.items)
    assert torch.equal(in_turn[5].user.history, alone.user.history)
    assert not torch.equal(other.slate.items, alone.slate.items)


def test_every_slate_comes_once_in_an_epoch(feed) -> None:
    count = len(feed.slates)
    steps = -(-count // feed.size)
    first, second = (
        np.concatenate([feed.chosen(epoch * steps + step)[0] for step in range(steps)])
        for epoch in (0, 1)
    )

    assert np.array_equal(np.sort(first), np.arange(count))
    assert np.array_equal(np.sort(second), np.arange(count))
    assert not np.array_equal(first, second)
