"""The models of a recipe: the one that is built, and the variants that `compare` trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from builder.recipe.language import LanguageRule, Vectors
from builder.recipe.limits import Interval

Family = Literal["lrea", "two-stage", "full", "stacked", "pooled", "none", "control", "ablation"]
SHARE = "train.share"
"""Key of a sweep over the share of the training data."""
Rate = Annotated[float, Interval(gt=0)]


@dataclass(frozen=True)
class ModelChoice:
    """A model of the registry."""

    name: str
    """As the registry has it, in lower case."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of the model's config. Others keep its defaults."""


@dataclass(frozen=True)
class Variant:
    """A model that `compare` trains on the recipe's data."""

    label: str
    """Name in tables and plots."""
    family: Family
    """How the model uses the long history. "lrea": folds it into slots; "two-stage": searches it, then attends to the
    events found; "full": attends to every event; "stacked": several layers in which events attend to each other;
    "pooled": one summary for all candidates; "none": does not use it; "control": explains another variant and is not
    compared itself; "ablation": the best variant of family "lrea" with one option less, in a table of its own.
    Differences are taken to the variants of family "full" and "two-stage" with the best mean validation."""
    model: ModelChoice
    against: tuple[str, ...] = ()
    """Labels of further variants to show the difference to, such as its control."""
    train: dict[str, Any] = field(default_factory=dict)
    """Keys of `train` for this variant alone, such as a paper's own setting. A learning rate among them is not
    searched."""
    seeds: Annotated[int, Interval(ge=1)] | None = None
    """Largest number of trainings of this variant. Unset: as many as the command says."""
    length: Annotated[int, Interval(ge=1)] | None = None
    """L of this variant, at most `history.length`. Unset: `history.length`."""
    vectors: Vectors | None = None
    """Field vectors of the variant, as in `language.vectors`. Unset: it reads no field vectors."""


@dataclass(frozen=True)
class SearchRule:
    """How `compare` chooses each variant's hyperparameters: by validation AUC, with as many trials for each."""

    learning_rate: tuple[Rate, ...] = ()
    """Learning rates to try once with each variant. Empty: no search, all variants use `train.learning_rate`."""
    steps: Annotated[int, Interval(ge=1)] | None = None
    """Training steps of a trial. Unset: `train.steps`."""
    trials: Annotated[int, Interval(ge=2)] | None = None
    """Number of trials, drawn from all lists of this table with equal frequencies. Unset: the learning rates alone."""
    weight_decay: tuple[Annotated[float, Interval(ge=0)], ...] = ()
    """Weight decays to draw from. Empty: `train.weight_decay`."""
    model: dict[str, Any] = field(default_factory=dict)
    """Key of a model's config -> values to draw from. Applies to variants that have the key and do not set it to 0 or
    false."""

    def __post_init__(self) -> None:
        rates = self.learning_rate
        if len(rates) == 1 or len(set(rates)) < len(rates):
            raise ValueError(
                f"learning_rate: got {list(rates)}, expected none or at least two, all different"
            )
        drawn = {"weight_decay": self.weight_decay, "model": self.model}
        for name, given in drawn.items():
            if given and self.trials is None:
                raise ValueError(
                    f"{name}: got values to draw from, expected search.trials to be set"
                )
        if self.trials is not None and not rates:
            raise ValueError(f"trials: got {self.trials}, expected learning rates to draw from")
        for key, values in self.model.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"model.{key}: got {values!r}, expected a list of values")
        lists = (rates, self.weight_decay or (0.0,), *self.model.values())
        most = math.prod(len(values) for values in lists)
        if self.trials is not None and self.trials > most:
            raise ValueError(f"trials: got {self.trials}, expected at most {most} combinations")


@dataclass(frozen=True)
class Setting:
    """Hyperparameters that a search chose.

    Attributes:
        learning_rate: replaces `train.learning_rate`.
        weight_decay: replaces `train.weight_decay`.
        config: replaces keys of the model's config.
    """

    learning_rate: float
    weight_decay: float
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A variant trained with several values of one key, at the variant's learning rate."""

    label: str
    """Name in tables and plots."""
    variant: str
    """Label of the variant."""
    key: str
    """Key of the model's config, or "train.share"."""
    values: tuple[Any, ...]
    """Values of the key, at least two."""
    seeds: Annotated[int, Interval(ge=1)] | None = None
    """Number of trainings per value. Unset: as many as each variant gets."""

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"values: got {list(self.values)}, expected at least two")


def with_llm_dim(model: ModelChoice, language: LanguageRule | None) -> ModelChoice:
    """The model with `llm_dim` filled in, where it reads field vectors and does not set their width."""
    config = model.config
    if language is None or "llm_dim" in config or not (config.get("fre") or config.get("fie")):
        return model
    return replace(model, config={**config, "llm_dim": language.dim})
