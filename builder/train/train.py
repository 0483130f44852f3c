"""Events -> Checkpoint: train for a fixed budget of steps, validate on the way, keep the weights that validate best."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from builder.checkpoint import Checkpoint
from builder.dataset.batches import Slates
from builder.dataset.parts import batch_source, part_slates, train_slates
from builder.errors import RecipeError
from builder.evaluate.metrics import measure
from builder.evaluate.predict import predict
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe, TrainRule
from builder.train.learning_rate import share_of_rate
from models.base import CtrModel
from models.batch import Batch
from models.field.base import FieldModel
from models.registry import build_model, make_config

logger = logging.getLogger(__name__)

VALIDATION_SLATES = 2000
"""Smallest number of slates in a validation: with baskets, the AUC is known to ±0.003, in a small part of the time of
the training steps between two validations."""
VALIDATION_EVENTS = 8000
"""Smallest number of events in a validation, or all if there are fewer: slates of one impression each say little."""
FINAL_RATE = 0.05
"""Share of its start that the learning rate falls to: at a low rate, the last steps reduce the noise in the weights."""


def train(
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    vectors: Float[Tensor, "K Dl"] | None = None,
) -> Checkpoint:
    """Fit the recipe's model.

    Args:
        events: the log.
        recipe: model, budget, seed.
        progress: called after every step, with the latest validation as its note.
        vectors: field vectors, for a model that reads them; None for other models.

    Raises:
        RecipeError: the model reads field vectors and got none, or got some and does not read them.
    """
    rule = recipe.train
    torch.set_num_threads(rule.threads or torch.get_num_threads())
    item_fields = torch.from_numpy(np.array(events.item_fields))
    model = build_model(
        recipe.model.name, events.schema, item_fields, recipe.model.config, rule.seed
    )
    _set_vectors(model, vectors, recipe)
    optimizer = make_optimizer(model, rule)
    slates = train_slates(events, recipe)
    steps = num_steps(rule, len(slates))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: share_of_rate(step, steps, FINAL_RATE)
    )
    validation = _Validation(events, recipe)
    note = ""
    for step, batch in enumerate(_batches(events, recipe, slates, steps), 1):
        loss = _step(model, optimizer, batch)
        schedule.step()
        validation.add_loss(loss)
        if step % rule.validate_every == 0 or step == steps:
            note = validation.run(model, step)
        progress(step, steps, note)
    # Defaults included: another version of the code may have other defaults.
    config = asdict(make_config(recipe.model.name, recipe.model.config))
    return Checkpoint(recipe.model.name, config, events.schema, validation.best, validation.history)


def make_optimizer(model: CtrModel, rule: TrainRule) -> torch.optim.Optimizer:
    """The recipe's optimiser, over the model's parameter groups."""
    groups = model.parameter_groups(rule.learning_rate)
    if rule.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, weight_decay=rule.weight_decay)
    return torch.optim.Adam(groups, weight_decay=rule.weight_decay)


def _set_vectors(model: CtrModel, vectors: Float[Tensor, "K Dl"] | None, recipe: Recipe) -> None:
    reads = isinstance(model, FieldModel) and model.semantics is not None
    if reads != (vectors is not None):
        got = "a [language] section" if vectors is not None else "none"
        expected = "a field model with llm_dim" if vectors is not None else "a [language] section"
        raise RecipeError(str(recipe.path), [f"field vectors: got {got}, expected {expected}"])
    if isinstance(model, FieldModel) and model.semantics is not None and vectors is not None:
        model.semantics.set_vectors(vectors)


def num_steps(rule: TrainRule, slates: int) -> int:
    """Number of training steps: `steps`, or fewer where `max_epochs` over this many slates take fewer."""
    if rule.max_epochs is None:
        return rule.steps
    return min(rule.steps, math.ceil(rule.max_epochs * slates / rule.slates_per_step))


def _batches(events: Events, recipe: Recipe, slates: Slates, steps: int) -> Iterator[Batch]:
    """Exactly `steps` batches, epoch after epoch."""
    source = batch_source(events, recipe, "train")
    rng = np.random.default_rng(recipe.train.seed)
    left = steps
    while left:
        for batch, _ in source.epoch(slates, recipe.train.slates_per_step, rng, shuffle=True):
            yield batch
            left -= 1
            if not left:
                return


def _step(model: CtrModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    model.train()
    loss, total = losses(model, batch)
    optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def losses(model: CtrModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Weighted mean of the cross-entropy; and the sum that a step minimises, with auxiliary losses."""
    out = model.train_forward(batch.user, batch.context, batch.slate)
    loss, *others = (weighted_loss(logits, batch) for logits in (out.logits, *out.auxiliary))
    total = torch.stack([loss, *others]).sum()
    return loss, total if out.penalty is None else total + out.penalty


def weighted_loss(logits: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, ""]:
    """Weighted mean of the binary cross-entropy of the real candidates, at the odds that sampling gave them."""
    total = F.binary_cross_entropy_with_logits(
        logits + batch.offset, batch.label, batch.weight, reduction="sum"
    )
    return total / batch.weight.sum()


def _some(slates: Slates) -> NDArray[np.int64]:
    """Indices of the slates that a validation measures: the same in every training."""
    order = np.random.default_rng(0).permutation(len(slates))
    events = np.cumsum((slates.end - slates.begin)[order])
    enough = int(np.searchsorted(events, VALIDATION_EVENTS)) + 1
    return np.sort(order[: max(VALIDATION_SLATES, enough)])


class _Validation:
    """Validates, and keeps the weights with the best AUC and the history of all validations."""

    def __init__(self, events: Events, recipe: Recipe) -> None:
        self.source = batch_source(events, recipe, "validate")
        slates = part_slates(events, recipe, "validate")
        self.slates = slates.at(_some(slates))
        self.history: list[dict[str, int | float]] = []
        self.best: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._best_auc = -1.0
        self._began_s = time.monotonic()

    def add_loss(self, loss: float) -> None:
        self._losses.append(loss)

    def run(self, model: CtrModel, step: int) -> str:
        """Validate, and describe the result in a line."""
        probability, label, user = predict(model, self.source, self.slates).for_metrics()
        # A diverged model predicts NaN. Training goes on: an earlier step may be the best.
        metrics = measure(np.nan_to_num(probability, nan=0.5), label, user)
        line = {
            "step": step,
            "train_loss": float(np.mean(self._losses)),
            "auc": metrics.auc,
            "log_loss": metrics.log_loss,
            "seconds": time.monotonic() - self._began_s,
        }
        self._losses.clear()
        self.history.append(line)
        if metrics.auc > self._best_auc:
            self._best_auc = metrics.auc
            self.best = {name: value.clone() for name, value in model.state_dict().items()}
        text = "loss {train_loss:.4f}, validation AUC {auc:.4f}, log loss {log_loss:.4f}".format(
            **line
        )
        logger.info("step %d: %s", step, text)
        return text
