"""The batches of a training.

Which slates and negatives a step gets depends on the seed and the step alone: a resumed training sees what the
interrupted one would have seen.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.batches import BatchSource, Slates
from models.batch import Batch

Chosen = tuple[NDArray[np.int64], NDArray[np.float64] | None]
AHEAD = 3
"""Batches that are made ahead of the step that runs."""


@dataclass(frozen=True, eq=False)
class Feed:
    """Endless batches, epoch after epoch (`BatchSource.order`).

    Attributes:
        source: makes batches.
        slates: to train on.
        size: slates of a step.
        seed: of orders and negatives.
    """

    source: BatchSource
    slates: Slates
    size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        rng = np.random.default_rng([self.seed, 1, step])
        chosen, weight = self.chosen(step)
        return self.source.batch(self.slates, chosen, rng, weight)[0]

    def batches(self, first: int, last: int, device: torch.device) -> Iterator[Batch]:
        """Batches of the steps from `first` to before `last` on `device`, made in a thread ahead of their use."""
        if device.type == "cpu":  # the processor has better things to do than to wait for itself
            yield from map(self.batch, range(first, last))
            return
        ready: queue.Queue[Batch | BaseException] = queue.Queue(AHEAD)
        is_over = threading.Event()
        maker = threading.Thread(target=self._fill, args=(ready, first, last, is_over), daemon=True)
        maker.start()
        try:
            for _ in range(first, last):
                made = ready.get()
                if isinstance(made, BaseException):
                    raise made
                yield made.to(device, non_blocking=True)
        finally:
            is_over.set()
            maker.join()

    def _fill(
        self,
        ready: "queue.Queue[Batch | BaseException]",
        first: int,
        last: int,
        is_over: threading.Event,
    ) -> None:
        for step in range(first, last):
            made: Batch | BaseException
            try:
                made = self.batch(step).pinned()
            except BaseException as error:
                made = error
            while not is_over.is_set():
                try:
                    ready.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if is_over.is_set() or isinstance(made, BaseException):
                return

    def chosen(self, step: int) -> Chosen:
        """The slates of a step, and their weights."""
        per_epoch = max(1, -(-len(self.slates) // self.size))
        return _order(self, step // per_epoch)[step % per_epoch]


@lru_cache(maxsize=2)
def _order(feed: Feed, epoch: int) -> list[Chosen]:
    rng = np.random.default_rng([feed.seed, 0, epoch])
    return list(feed.source.order(feed.slates, feed.size, rng, shuffle=True))
