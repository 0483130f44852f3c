"""The recipe's optimiser, and the running mean of weights that is validated and kept."""

import copy

import torch
from torch import Tensor

from builder.recipe.recipe import TrainRule
from models.base import CtrModel


def make_optimizer(model: CtrModel, rule: TrainRule) -> torch.optim.Optimizer:
    """The recipe's optimiser, over the model's parameter groups."""
    groups = model.parameter_groups(rule.learning_rate)
    on_gpu = next(model.parameters()).is_cuda
    # One call for all weights: torch fuses Adagrad on processors only.
    how = {"foreach": True} if on_gpu else {"fused": True}
    if rule.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, weight_decay=rule.weight_decay, **how)
    return torch.optim.Adam(groups, weight_decay=rule.weight_decay, fused=True)


def decay_at(step: int, decay: float) -> float:
    """Decay of a running mean at a step, counted from 1: smaller at first, so that the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


class RunningMean:
    """mean ← mean + (1 − decay)(weights − mean) after every step; the decay is smaller in the first steps.

    Args:
        model: the model that is trained.
        decay: of the mean; 0 keeps the weights themselves.
    """

    def __init__(self, model: CtrModel, decay: float) -> None:
        self._source, self._decay = model, decay
        self.model = copy.deepcopy(model) if decay else model
        self._weights: list[Tensor] = list(model.parameters())
        self._means: list[Tensor] = list(self.model.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        if self._decay:
            kept = decay_at(step, self._decay)
            torch._foreach_lerp_(self._means, self._weights, 1 - kept)

    @torch.no_grad()
    def ready(self) -> CtrModel:
        """The model with the mean weights; its statistics of batches are those of the trained model."""
        if self._decay:
            for mean, value in zip(self.model.buffers(), self._source.buffers(), strict=True):
                mean.copy_(value)
        return self.model
