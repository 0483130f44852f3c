"""The models of a recipe: the one that is built, and the variants that `compare` trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from annotated_types import Interval

from builder.recipe.language import LanguageRule, Vectors
from builder.recipe.validate import config_problems
from models.contract.errors import UnknownModelError, did_you_mean

Family = Literal["lrea", "two-stage", "full", "stacked", "pooled", "none", "control"]
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
    compared itself. Differences are taken to the first variant of family "full"."""
    model: ModelChoice
    against: tuple[str, ...] = ()
    """Labels of further variants to show the difference to, such as its control."""
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
        pairs = len(rates) * max(1, len(self.weight_decay))
        if self.trials is not None and self.trials > pairs:
            most = f"expected at most {pairs}: pairs of a learning rate and a weight decay"
            raise ValueError(f"trials: got {self.trials}, {most}")
        for key, values in self.model.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"model.{key}: got {values!r}, expected a list of values")


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


def nest_models(values: dict[str, Any]) -> list[str]:
    """Move every key of each model table, except its name, into `config`; return the problems with those keys."""
    problems: list[str] = []
    if isinstance(values.get("model"), dict):
        values["model"], key_problems = _nested(values["model"], "model")
        problems += key_problems
    if isinstance(values.get("variant"), list):
        values["variant"] = [dict(v) if isinstance(v, dict) else v for v in values["variant"]]
        for place, variant in enumerate(values["variant"]):
            if isinstance(variant, dict) and isinstance(variant.get("model"), dict):
                variant["model"], key_problems = _nested(
                    variant["model"], f"variant[{place}].model"
                )
                problems += key_problems
    return problems


def _nested(table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    from models.registry import (
        MODELS,  # imported here: it imports torch, which most of the builder does not need
    )

    config = {key: value for key, value in table.items() if key != "name"}
    nested = {"config": config} | ({"name": table["name"]} if "name" in table else {})
    name = table.get("name")
    if not isinstance(name, str):
        return nested, []  # the validation reports it
    if name not in MODELS:
        return nested, [f"{where}.name: {UnknownModelError(name, MODELS)}"]
    return nested, config_problems(MODELS[name].config, config, where)


def vector_problems(
    model: ModelChoice, variants: Sequence[Variant], language: LanguageRule | None
) -> list[str]:
    """Problems of models that read field vectors without a [language] section, or the other way round."""
    problems = []
    if _reads_vectors(model) and language is None:
        problems.append("model: fre and fie read field vectors, expected a [language] section")
    for place, variant in enumerate(variants):
        where = f"variant[{place}]"
        if variant.vectors is not None and language is None:
            problems.append(
                f"{where}.vectors: got {variant.vectors!r}, expected a [language] section"
            )
        elif variant.vectors is None and _reads_vectors(variant.model):
            problems.append(
                f"{where}.vectors: missing, fre and fie read them, for instance 'tuned'"
            )
    for where, config in [("model", model.config)] + [
        (f"variant[{place}].model", variant.model.config) for place, variant in enumerate(variants)
    ]:
        given = config.get("llm_dim")
        if given and language is not None and given != language.dim:
            expected = f"expected {language.dim}, the width of {language.model}, or none"
            problems.append(f"{where}.llm_dim: got {given}, {expected}")
    return problems


def _reads_vectors(model: ModelChoice) -> bool:
    return bool(model.config.get("fre") or model.config.get("fie"))


def comparison_problems(
    variants: Sequence[Variant], sweeps: Sequence[Sweep], search: SearchRule
) -> list[str]:
    """Labels that occur twice, and sweeps and searches of keys or variants that do not exist."""
    problems = []
    for kind, entries in (("variant", variants), ("sweep", sweeps)):
        labels = [entry.label for entry in entries]
        for place, label in enumerate(labels):
            if label in labels[:place]:
                problems.append(
                    f"{kind}[{place}].label: got {label!r} twice, expected a label of its own"
                )
    known = {variant.label: variant for variant in variants}
    for place, variant in enumerate(variants):
        for label in variant.against:
            if label not in known or label == variant.label:
                others = ", ".join(other for other in known if other != variant.label) or "none"
                problem = f"got {label!r}, expected one of: {others}{did_you_mean(label, known)}"
                problems.append(f"variant[{place}].against: {problem}")
    for place, sweep in enumerate(sweeps):
        problems += _sweep_problems(known, sweep, f"sweep[{place}]")
    return problems + _search_problems(variants, search)


def _search_problems(variants: Sequence[Variant], search: SearchRule) -> list[str]:
    from models.registry import MODELS  # here: as in `_nested`

    problems = []
    for key, values in search.model.items():
        configs = [MODELS[variant.model.name].config for variant in variants]
        having = [config for config in configs if key in {own.name for own in fields(config)}]
        if not having:
            keys = sorted({own.name for config in configs for own in fields(config)})
            hint = did_you_mean(key, keys)
            problems.append(
                f"search.model.{key}: got a key that no variant's model has, expected a key of one{hint}"
            )
            continue
        for place, value in enumerate(values):
            key_problems = config_problems(having[0], {key: value})
            problems += [f"search.model.{key}[{place}]: {problem}" for problem in key_problems]
    return problems


def _sweep_problems(variants: dict[str, Variant], sweep: Sweep, where: str) -> list[str]:
    from models.registry import MODELS  # here: as in `_nested`

    if sweep.variant not in variants:
        known = ", ".join(variants) or "none"
        hint = did_you_mean(sweep.variant, variants)
        return [f"{where}.variant: got {sweep.variant!r}, expected one of: {known}{hint}"]
    if sweep.key == SHARE:
        return [
            f"{where}.values[{place}]: got {value!r}, expected a number above 0 and at most 1"
            for place, value in enumerate(sweep.values)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1
        ]
    config = MODELS[variants[sweep.variant].model.name].config
    keys = [key.name for key in fields(config)]
    if sweep.key not in keys:
        hint = did_you_mean(sweep.key, keys)
        return [f"{where}.key: got {sweep.key!r}, expected one of: {', '.join(keys)}{hint}"]
    own = variants[sweep.variant].model.config
    return [
        f"{where}.values[{place}]: {problem}"
        for place, value in enumerate(sweep.values)
        for problem in config_problems(config, {**own, sweep.key: value})
    ]
