"""The engine: slates and states in, logits out. Runs kernels on a GPU, and in plain torch on a CPU."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate, Limits, Logits
from service.runtime.engines.torch.buffers import TILE, USERS, Buffers, tiles_of
from service.runtime.engines.torch.eager import score_eagerly
from service.runtime.engines.torch.runs import Bucket, Scratch
from service.runtime.engines.torch.slots import DeviceState, StateSlots
from service.runtime.engines.torch.weights import Sizes, Weights

BUCKETS = tuple(1 << power for power in range(11))
"""Tiles of the buckets: 64, 128, 256 … 65,536 candidates, of all slates of a launch together."""


class TorchEngine:
    """Scores up to `USERS` slates in one launch of the smallest bucket that holds them.

    More slates, and longer ones, are scored in several launches. Calls of several threads take turns.

    Attributes:
        device: "cuda:0" or "cpu".
        sizes: of the model.
        stream: on which it launches; None on a CPU.
        memory: users' states on the device; a slate whose state is one of them is scored without a copy.
    """

    name = "torch"
    limits = Limits()

    def __init__(
        self,
        weights: Weights,
        sizes: Sizes,
        device: str,
        *,
        is_eager: bool,
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        """Copy the weights to the device; on a GPU compile the kernels and capture a graph for each bucket.

        Args:
            weights: of the plan, with unpadded widths.
            sizes: of the model.
            device: "cuda:0" or "cpu".
            is_eager: compute in plain torch instead of kernels.
            buckets: tiles of each bucket, in increasing order.
        """
        self.device = device
        self.memory = StateSlots(sizes, device)
        self._is_eager = is_eager
        self.sizes = sizes
        self._weights = weights.padded_to(device)
        scratch = Scratch.of(() if is_eager else buckets, self._weights, sizes, device)
        self._buckets = [Bucket(n, scratch, self._weights, sizes, device) for n in buckets]
        self._lock = threading.Lock()
        is_cuda = device.startswith("cuda")
        words = self.memory.layout.words
        self._staged = torch.zeros(USERS, words, dtype=torch.int32, pin_memory=is_cuda)
        self._copied = torch.zeros(USERS, words, dtype=torch.int32, device=device)
        self.stream = torch.cuda.Stream(device) if is_cuda else None  # type: ignore[no-untyped-call]
        if self.stream is not None and not is_eager:
            with torch.inference_mode(), self._on_stream():
                for bucket in self._buckets:
                    bucket.capture(self.stream)

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, or the error of a state that cannot be scored.

        Raises:
            RuntimeError: the device failed.
        """
        largest = self._buckets[-1].buffers.tiles
        with self._lock, torch.inference_mode(), self._on_stream():
            pieces = [
                (number, piece, logits)
                for run in _runs(slates, largest)
                for (number, piece), logits in zip(
                    run, self._score([piece for _, piece in run]), strict=True
                )
            ]
        return [
            _joined([logits for _, _, logits in parts])
            for _, parts in groupby(pieces, key=lambda piece: piece[0])
        ]

    def close(self) -> None:
        """Free graphs and weights."""
        self._buckets = []

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def _score(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Score slates that fit in one launch."""
        results: list[Logits | ScoreError | None] = [None] * len(slates)
        states: list[Tensor] = []
        fitting: list[int] = []
        num_staged = 0
        for number, slate in enumerate(slates):
            state = slate.state
            if isinstance(state, DeviceState) and state.is_in(self.memory):
                states.append(state.words)
            else:
                try:
                    self.memory.layout.write(state, self._staged[num_staged].numpy())
                except ScoreError as error:
                    results[number] = error
                    continue
                states.append(self._copied[num_staged])
                num_staged += 1
            fitting.append(number)
        self._copied[:num_staged].copy_(self._staged[:num_staged], non_blocking=True)
        scored = self._run([slates[number] for number in fitting], states) if fitting else []
        for number, logits in zip(fitting, scored, strict=True):
            results[number] = logits
        return [result for result in results if result is not None]

    def _run(self, slates: Sequence[EngineSlate], states: Sequence[Tensor]) -> list[Logits]:
        buffers, launch = self._load(slates, states)
        launch()
        buffers.download()
        if self.stream is not None:
            self.stream.synchronize()
        return buffers.fetched(slates)

    def _load(
        self, slates: Sequence[EngineSlate], states: Sequence[Tensor]
    ) -> tuple[Buffers, Callable[[], None]]:
        """Start the copy of some slates to the smallest bucket that holds them, and return what scores them there."""
        tiles = sum(tiles_of(len(slate.items)) for slate in slates)
        bucket = next(one for one in self._buckets if one.buffers.tiles >= tiles)
        buffers = bucket.buffers
        buffers.put(slates, [state.data_ptr() for state in states])
        buffers.upload()
        if self._is_eager:
            return buffers, partial(score_eagerly, buffers, states, self._weights, self.sizes)
        return buffers, bucket.launch

    def load(self, slates: Sequence[EngineSlate]) -> Callable[[], None]:
        """Copy slates to the device, and return the call that scores them there, any number of times: to time it alone.

        Args:
            slates: whose states are in `memory`, and which fit in one launch. Other calls must not score meanwhile.
        """
        states = [slate.state.words for slate in slates if isinstance(slate.state, DeviceState)]
        with self._lock, torch.inference_mode(), self._on_stream():
            _, launch = self._load(slates, states)
            if self.stream is not None:
                self.stream.synchronize()
        return launch


def _runs(slates: Sequence[EngineSlate], largest: int) -> Iterator[list[tuple[int, EngineSlate]]]:
    """Slates, in order and cut where they are too long, in groups that fit in one launch; each with its number."""
    run: list[tuple[int, EngineSlate]] = []
    tiles = 0
    for number, slate in enumerate(slates):
        for piece in _pieces(slate, largest * TILE):
            needed = tiles_of(len(piece.items))
            if run and (len(run) == USERS or tiles + needed > largest):
                yield run
                run, tiles = [], 0
            run.append((number, piece))
            tiles += needed
    if run:
        yield run


def _pieces(slate: EngineSlate, longest: int) -> Iterator[EngineSlate]:
    if len(slate.items) <= longest:
        yield slate
        return
    for start in range(0, len(slate.items), longest):
        part = slice(start, start + longest)
        yield replace(slate, items=slate.items[part], fields=slate.fields[part])


def _joined(parts: Sequence[Logits | ScoreError]) -> Logits | ScoreError:
    for part in parts:
        if isinstance(part, ScoreError):
            return part
    logits: list[Logits] = [part for part in parts if not isinstance(part, ScoreError)]
    return logits[0] if len(logits) == 1 else np.concatenate(logits)
