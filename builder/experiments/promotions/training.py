"""One row on one device: a captured step, a short search, then trainings until validation stops improving."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from builder.experiments.promotions.blocks.position_slots import SLOW
from builder.experiments.promotions.evaluation import validate, validation_slates
from builder.experiments.promotions.network import Network
from builder.experiments.promotions.optimiser import Adagrad
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import build
from builder.experiments.promotions.task import NEGATIVES, Task


@dataclass(frozen=True)
class Budget:
    """The same for every row.

    Attributes:
        batch: visits of a step.
        every: steps from one validation to the next.
        patience: validations without a better GAUC after which training ends.
        most: steps at most.
        trial: steps of each setting in the search.
        rates: learning rates that the search tries.
        dropouts: rates of dropout that it tries.
        validation_visits: visits behind each validation.
    """

    batch: int = 64
    every: int = 200
    patience: int = 8
    most: int = 10_000
    trial: int = 600
    rates: tuple[float, ...] = (0.03, 0.1)
    dropouts: tuple[float, ...] = (0.1, 0.4)
    validation_visits: int = 1536

    def settings(self) -> "list[Setting]":
        """Settings that the search tries."""
        return [Setting(rate, drop) for rate in self.rates for drop in self.dropouts]


@dataclass(frozen=True)
class Setting:
    """Chosen by validation."""

    rate: float
    dropout: float


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        steps: number of steps.
        best_step: step of the kept weights.
        best: their validation metrics.
        curve: validations: step, training loss, GAUC, log loss.
        seconds: of wall time.
        step_ms: time of a step, without validation.
        ended: "patience", "steps" or "time".
    """

    steps: int
    best_step: int
    best: dict[str, float]
    seconds: float
    step_ms: float
    ended: str
    curve: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """A row's step, captured once; every trial and seed starts it from other weights.

    Args:
        label: of the row.
        prepared: the task.
        task: the same on the device.
        budget: steps, patience and search.
        say: called with each line of progress.
    """

    def __init__(
        self,
        label: str,
        prepared: Prepared,
        task: Task,
        budget: Budget,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.label, self.prepared, self.task, self.budget, self.say = (
            label,
            prepared,
            task,
            budget,
            say,
        )
        self.network = build(label, prepared, 0, task.length).to(task.device)
        self.mean: Network = copy.deepcopy(self.network)
        self.slates = validation_slates(task, budget.validation_visits)
        slow = [w for block in self.network.blocks for w in getattr(block, "slow", ())]
        self.optimiser = Adagrad(
            self.network.parameters(), self.mean.parameters(), slow=slow, share=SLOW
        )
        self.loss = torch.zeros((), device=task.device)
        self.steps = torch.zeros((), device=task.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.why_no_graph = ""
        if task.device.type == "cuda":
            self._capture()

    def search(self) -> tuple[Setting, list[dict[str, float]]]:
        """The setting with the best validation GAUC after a short training, and the metrics of all."""
        trials = []
        for setting in self.budget.settings():
            self._start(1000, setting)
            best = {"gauc": 0.0, "log_loss": float("inf")}
            for _ in range(max(1, self.budget.trial // self.budget.every)):
                self._run(self.budget.every)
                now = validate(self.mean, self.slates)
                best = max(best, now, key=lambda metrics: metrics["gauc"])
            trials.append(asdict(setting) | best)
            self.say(f"{self.label}: trial {trials[-1]}")
        best_trial = max(trials, key=lambda trial: trial["gauc"])
        return Setting(best_trial["rate"], best_trial["dropout"]), trials

    def train(self, seed: int, setting: Setting, deadline: float) -> Trained:
        """Train from the seed's weights; `mean` then holds the best ones.

        Args:
            seed: of weights and batches.
            setting: from the search.
            deadline: in `time.monotonic()`; training ends there with `ended` "time".
        """
        begun = time.monotonic()
        self._start(seed, setting)
        best, kept, curve, step, bad = {"gauc": 0.0}, self._weights(), [], 0, 0
        best_step, ended, running = 0, "steps", 0.0
        while step < self.budget.most:
            started = time.monotonic()
            self._run(self.budget.every)
            step += self.budget.every
            train_loss = self._mean_loss()  # waits for the device
            running += time.monotonic() - started
            now = validate(self.mean, self.slates)
            curve.append({"step": float(step), "train_loss": train_loss, **now})
            bad += 1
            if now["gauc"] > best["gauc"]:
                best, best_step, bad = now, step, 0
                for to, weight in zip(kept, self.mean.parameters(), strict=True):
                    to.copy_(weight.detach())
            if bad >= self.budget.patience:
                ended = "patience"
                break
            if time.monotonic() > deadline:
                ended = "time"
                break
        with torch.no_grad():
            for weight, to in zip(self.mean.parameters(), kept, strict=True):
                weight.copy_(to)
        seconds, step_ms = time.monotonic() - begun, 1000 * running / max(step, 1)
        return Trained(step, best_step, best, seconds, step_ms, ended, curve)

    def _weights(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.mean.parameters()]

    @torch.no_grad()
    def _start(self, seed: int, setting: Setting) -> None:
        fresh = build(self.label, self.prepared, seed, self.task.length)
        for weight, value in zip(self.network.parameters(), fresh.parameters(), strict=True):
            weight.copy_(value)
        self.optimiser.reset()
        self.optimiser.rate.fill_(setting.rate)
        self.network.dropout.rate.fill_(setting.dropout)
        self.loss.zero_()
        self.steps.zero_()
        torch.manual_seed(seed)

    def _mean_loss(self) -> float:
        """Of the steps since the last call."""
        mean = float(self.loss / self.steps)
        self.loss.zero_()
        self.steps.zero_()
        return mean

    def _run(self, steps: int) -> None:
        self.network.train()
        for _ in range(steps):
            if self.graph is None:
                self._step()
            else:
                self.graph.replay()

    def _step(self) -> None:
        visits, weight = self.task.draw_visits(self.budget.batch)
        draws = torch.rand(self.budget.batch, 1 + NEGATIVES, device=self.task.device)
        loss = self.network.loss(self.task.sample(visits, weight, draws))
        weights = self.optimiser.weights
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        full = [
            torch.zeros_like(weight) if grad is None else grad
            for weight, grad in zip(weights, grads, strict=True)
        ]
        self.optimiser.update(full)
        self.loss.add_(loss.detach())
        self.steps.add_(1)

    def _capture(self) -> None:
        """The whole step as one CUDA graph; without one, if the device refuses, every step is launched by itself."""
        self.network.train()
        self.optimiser.rate.fill_(0.0)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:
            self.why_no_graph = str(error)[:300]
            self.say(f"{self.label}: no graph: {self.why_no_graph}")
            torch.cuda.synchronize()
            return
        self.graph = graph
