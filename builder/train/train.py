"""Events -> Checkpoint: train until validation stops improving, and keep the weights that validate best."""

import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, train_slates
from builder.errors import RecipeError
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe, TrainRule
from builder.train.clipping import Clipping
from builder.train.device import find_device
from builder.train.feed import Feed
from builder.train.gradients import Gradients, ReplayedGradients
from builder.train.learning_rate import rise
from builder.train.optimiser import RunningMean, make_optimizer
from builder.train.resume import Kept, Saved
from builder.train.stopping import Ended, Stopping
from builder.train.validation import Validation
from builder.train.warm_start import WarmStart, describe, snapshot, values_of
from models.base import CtrModel
from models.batch import Batch
from models.field.base import FieldModel
from models.registry import build_model, make_config

logger = logging.getLogger(__name__)

SECTIONS = ("data", "split", "history", "negatives", "sampling", "model", "train", "language")
"""Sections of a recipe that decide what a training does."""


def train(
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    vectors: Float[Tensor, "K Dl"] | None = None,
    *,
    folder: Path | None = None,
    save_every_s: float = 0.0,
    deadline_s: float = math.inf,
    start: WarmStart | None = None,
) -> Checkpoint:
    """Fit the recipe's model.

    Args:
        events: the log.
        recipe: model, budget, seed, device.
        progress: called after every step, with the latest validation as its note.
        vectors: field vectors, for a model that reads them; None for other models.
        folder: where the state is kept after each validation; a training that was interrupted goes on from there.
            None: it is not kept.
        save_every_s: least seconds between two states.
        deadline_s: in `time.monotonic()`; training ends with the first validation after it.
        start: an earlier training to go on from, for `train.warm_start` steps; None: from random weights.

    Raises:
        WarmStartError: `start` is of another model, of other fields, or of targets that are not for training now.
        RecipeError: the model reads field vectors and got none, or got some and does not read them.
        StepError: the recipe wants a GPU, and there is none.
    """
    torch.set_num_threads(recipe.train.threads or torch.get_num_threads())
    training = _Training(events, recipe, vectors, folder, start)
    saved_s = time.monotonic()
    while training.ended is None:
        training.run(progress)
        now_s = time.monotonic()
        if now_s > deadline_s and training.ended is None:
            training.ended = "time"
        if training.ended == "time" or now_s >= saved_s + save_every_s:
            training.save()
            saved_s = now_s
    # Defaults included: another version of the code may have other defaults.
    config = asdict(make_config(recipe.model.name, recipe.model.config))
    weights = {name: value.cpu() for name, value in training.kept.weights.items()}
    stopping = training.stopping
    best_step = stopping.curve[stopping.best]["step"]
    if training.saved is not None and training.ended != "time":
        training.saved.forget()
    return Checkpoint(
        recipe.model.name,
        config,
        events.schema,
        weights,
        stopping.curve,
        best_step,
        training.ended or "max_steps",
        training.warm_start(best_step),
    )


MIN_WEIGHT = 1e-6
"""The events of a whole batch may weigh 0."""
BASE_STEPS = 16
"""Batches from which the base rate is estimated."""


class _Training:
    """The state of a training between two validations."""

    def __init__(
        self,
        events: Events,
        recipe: Recipe,
        vectors: Tensor | None,
        folder: Path | None,
        start: WarmStart | None = None,
    ) -> None:
        if start is not None:
            start.require_fits(recipe, events)
        self.events, self.recipe = events, recipe
        rule = self.rule = recipe.train
        self.device = find_device(rule.device)
        item_fields = torch.from_numpy(np.array(events.item_fields))
        model = build_model(
            recipe.model.name, events.schema, item_fields, recipe.model.config, rule.seed
        )
        _set_vectors(model, vectors, recipe)
        slates = train_slates(events, recipe)
        source = batch_source(events, recipe, "train")
        self.feed = Feed(source, slates, rule.slates_per_step, rule.seed)
        model.set_base_log_odds(base_log_odds(self.feed))
        self.model = model.to(self.device)
        self.mean = RunningMean(self.model, rule.running_mean)
        self.optimizer = make_optimizer(self.model, rule)
        self.clipping = Clipping(self.model.parameters(), rule.clip)
        is_replayed = self.device.type == "cuda" and model.is_recordable
        how = ReplayedGradients if is_replayed else Gradients
        self.gradients = how(self.model, self._losses)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.first = start.step if start else 0
        self.steps = self.first + rule.warm_start if start else num_steps(rule, len(slates))
        self.rise = rise(rule.warm_up, self.steps)
        self.slates_per_epoch = len(slates)
        self.validation = Validation(events, recipe, self.device)
        self.stopping = Stopping(rule.patience, rule.drops, dropped=start.dropped if start else 0)
        self.kept = Kept()
        self.ended: Ended | None = None
        self.note, seconds = "", 0.0
        if start is not None:
            counts = start.apply(self.model, self.mean, self.optimizer, self.clipping, events)
            logger.info("warm start from step %d: rows %s", self.first, counts)
        self.saved = None if folder is None else Saved(folder, _key(events, recipe, start))
        if self.saved is not None:
            self.kept, seconds = self.saved.read(
                self.model, self.mean, self.optimizer, self.stopping, self.clipping
            )
        self.began_s = time.monotonic() - seconds
        self._end_if_over()

    @property
    def step(self) -> int:
        """Steps so far."""
        curve = self.stopping.curve
        return int(curve[-1]["step"]) if curve else self.first

    def run(self, progress: Progress) -> None:
        """Train up to the next validation, validate, and save."""
        first = self.step
        last = min(self.steps, first + self.rule.validate_every)
        # Dropout from here on depends on the seed and the step alone.
        torch.manual_seed(self.rule.seed * 1_000_003 + first)
        self.model.train()
        total = torch.zeros((), device=self.device)
        for step, batch in enumerate(self.feed.batches(first, last, self.device), first + 1):
            # On a GPU nothing here waits for the device: the loss is read once per validation.
            total += self._step(batch, step)
            if step < last:
                progress(step, self.steps, self.note)
        self._validate(last, float(total) / (last - first))
        progress(last, self.steps, self.note)

    def _step(self, batch: Batch, step: int) -> Tensor:
        share = self.rise(step - 1) * self.stopping.share_of_rate
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        loss = self.gradients(batch)
        self.clipping.apply(step)
        self.optimizer.step()
        self.mean.update(step)
        return loss

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with self._precision():
            return losses(self.model, batch)

    def _precision(self) -> AbstractContextManager[object]:
        if self.rule.precision == "bf16" and self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def _validate(self, step: int, train_loss: float) -> None:
        model = self.mean.ready()
        line = {
            "step": step,
            "epoch": step * self.rule.slates_per_step / self.slates_per_epoch,
            "train_loss": train_loss,
            **self.validation.run(model),
            "learning_rate": self.rule.learning_rate * self.stopping.share_of_rate,
            "seconds": time.monotonic() - self.began_s,
        }
        if self.stopping.add(line):
            best = {name: value.clone() for name, value in model.state_dict().items()}
            left = snapshot(self.model, best, self.optimizer, self.clipping)
            self.kept = Kept(best, left, self.stopping.dropped)
        self.note = in_words(line)
        logger.info("step %d: %s", step, self.note)
        self._end_if_over()

    def save(self) -> None:
        """Write the state, if there is a folder for it."""
        if self.saved is not None:
            seconds = self.stopping.curve[-1]["seconds"]
            self.saved.write(
                self.model,
                self.mean,
                self.optimizer,
                self.stopping,
                self.clipping,
                self.kept,
                seconds,
            )

    def warm_start(self, step: int) -> WarmStart | None:
        """What a later training goes on from: the state at the step that validated best; None: it cannot."""
        about, values = describe(self.recipe, self.events), values_of(self.events)
        if values is None or not self.kept.left:
            return None
        return WarmStart(about, values, step, self.kept.dropped, self.kept.left)

    def _end_if_over(self) -> None:
        if self.stopping.is_out_of_patience:
            self.ended = "patience"
        elif self.step >= self.steps:
            self.ended = "max_steps"


def _key(events: Events, recipe: Recipe, start: WarmStart | None) -> str:
    """Of what is trained: a saved state with another key is not used."""
    log = f"{events.schema.fingerprint()}-{len(events.item)}-{events.as_of_s}"
    key = f"{recipe.fingerprint(SECTIONS)}-{log}"
    return key if start is None else f"{key}-{start.digest()}"


def base_log_odds(feed: Feed) -> float:
    """Log odds of a positive among all candidates, by the first batches: where every model starts."""
    positives = negatives = 1.0  # of each, so that a log of one class gives a number
    for step in range(BASE_STEPS):
        batch = feed.batch(step)
        positives += float((batch.weight * batch.label).sum())
        # A sampled negative stands for as many as were not drawn.
        negatives += float((batch.weight * (1 - batch.label) * batch.offset.exp()).sum())
    return math.log(positives / negatives)


def in_words(line: Mapping[str, Any]) -> str:
    """A validation in a line."""
    gauc = "" if line["gauc"] is None else f", GAUC {line['gauc']:.4f}"
    start = f"loss {line['train_loss']:.4f}, validation AUC {line['auc']:.4f}"
    return f"{start}{gauc}, log loss {line['log_loss']:.4f}"


def _set_vectors(model: CtrModel, vectors: Float[Tensor, "K Dl"] | None, recipe: Recipe) -> None:
    reads = isinstance(model, FieldModel) and model.semantics is not None
    if reads != (vectors is not None):
        got = "a [language] section" if vectors is not None else "none"
        expected = "a field model with llm_dim" if vectors is not None else "a [language] section"
        raise RecipeError(str(recipe.path), [f"field vectors: got {got}, expected {expected}"])
    if isinstance(model, FieldModel) and model.semantics is not None and vectors is not None:
        model.semantics.set_vectors(vectors)


def num_steps(rule: TrainRule, slates: int) -> int:
    """Most training steps: `steps`, or fewer where `max_epochs` over this many slates take fewer."""
    if rule.max_epochs is None:
        return rule.steps
    return min(rule.steps, math.ceil(rule.max_epochs * slates / rule.slates_per_step))


def losses(model: CtrModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Weighted mean of the cross-entropy; and the sum that a step minimises, with auxiliary losses."""
    out = model.train_forward(batch.user, batch.context, batch.slate)
    loss, *others = (weighted_loss(logits, batch) for logits in (out.logits, *out.auxiliary))
    total = torch.stack([loss, *others]).sum()
    return loss, total if out.penalty is None else total + out.penalty


def weighted_loss(logits: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, ""]:
    """Weighted mean of the binary cross-entropy of the real candidates, at the odds that sampling gave them."""
    total = F.binary_cross_entropy_with_logits(
        logits.float() + batch.offset, batch.label, batch.weight, reduction="sum"
    )
    return total / batch.weight.sum().clamp(min=MIN_WEIGHT)
