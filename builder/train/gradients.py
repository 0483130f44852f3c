"""Loss and gradients of a batch: step by step, or on a GPU by replaying the kernels of an earlier step.

A step launches hundreds of small kernels, and a GPU is done with each before the next one is launched. A CUDA graph
launches all of them at once.
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from models.base import CtrModel
from models.batch import Batch

logger = logging.getLogger(__name__)

Losses = Callable[[Batch], tuple[Tensor, Tensor]]
"""Batch -> the loss that is reported, and the sum that is minimised."""
WARM_UP = 3
"""Steps before the one that is recorded: the libraries set themselves up in them."""


class Gradients:
    """Sets the gradients of a model's weights to those of a batch.

    Args:
        model: weights.
        losses: of a batch, by the same model.
    """

    def __init__(self, model: CtrModel, losses: Losses) -> None:
        self._weights, self._losses = list(model.parameters()), losses

    def __call__(self, batch: Batch) -> Tensor:
        """The loss that is reported; it may be overwritten by the next call."""
        for weight in self._weights:
            weight.grad = None
        return self._run(batch)

    def _run(self, batch: Batch) -> Tensor:
        loss, total = self._losses(batch)
        total.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


class ReplayedGradients(Gradients):
    """The same on a GPU by a CUDA graph of the first batch's shape; batches of other shapes go step by step.

    Dropout draws new numbers in each replay, from torch's generator, as it does step by step.
    """

    def __init__(self, model: CtrModel, losses: Losses) -> None:
        super().__init__(model, losses)
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._seen, self._is_possible = 0, True
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._loss = torch.empty(0)
        self._grads: list[Tensor | None] = []

    def __call__(self, batch: Batch) -> Tensor:
        """The loss that is reported; the next call overwrites it, and the gradients."""
        if self._graph is None and self._is_possible:
            self._seen += 1
            if self._seen <= WARM_UP:
                return self._aside(batch)
            self._record(batch)
        if self._graph is None or not self._fits(batch):
            return super().__call__(batch)
        for own, value in zip(self._inputs, tensors(batch), strict=True):
            own.copy_(value, non_blocking=True)
        self._graph.replay()
        for weight, grad in zip(self._weights, self._grads, strict=True):
            weight.grad = grad
        return self._loss

    def _aside(self, batch: Batch) -> Tensor:
        """Step by step in another stream, as recording requires."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = super().__call__(batch)
        current.wait_stream(self._stream)
        return loss

    def _record(self, batch: Batch) -> None:
        for weight in self._weights:
            weight.grad = None
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            # In the mode of one thread: another thread pins the memory of the next batches meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._loss = self._run(batch)
        except RuntimeError as error:
            logger.warning("CUDA graph: not recorded, training goes step by step: %s", error)
            self._is_possible = False
            return
        self._graph, self._inputs = graph, tensors(batch)
        self._grads = [weight.grad for weight in self._weights]

    def _fits(self, batch: Batch) -> bool:
        pairs = zip(self._inputs, tensors(batch), strict=True)
        return all(own.shape == value.shape for own, value in pairs)


def tensors(part: Any) -> list[Tensor]:
    """All tensors of a batch, in the order of its fields."""
    if isinstance(part, Tensor):
        return [part]
    return [tensor for f in fields(part) for tensor in tensors(getattr(part, f.name))]
