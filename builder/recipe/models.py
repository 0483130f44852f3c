"""What a recipe says of models: the one that is built, and those that `compare` trains beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from annotated_types import Interval

from builder.recipe.language import LanguageRule, Vectors
from builder.recipe.validate import config_problems
from models.contract.errors import UnknownModelError, did_you_mean

Family = Literal["lrea", "two-stage", "full", "stacked", "pooled", "none", "control"]
SHARE = "train.share"
"""Key of a sweep over how much of the training data there is."""
Rate = Annotated[float, Interval(gt=0)]


@dataclass(frozen=True)
class ModelChoice:
    """A model of the registry."""

    name: str
    """As the registry has it, in lower case."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of the model's config; the rest have its defaults."""


@dataclass(frozen=True)
class Variant:
    """A model that `compare` trains on the recipe's data."""

    label: str
    """Its name in tables and plots."""
    family: Family
    """What it does with the long history: "lrea" folds it into slots; "two-stage" searches it, then attends to what it
    found; "full" attends to every event, "stacked" in several layers, its events to each other too; "pooled" has one
    summary for all candidates; "none" leaves it out; "control" is no candidate to win and only explains another. The
    first of family "full" is what differences are taken to."""
    model: ModelChoice
    against: tuple[str, ...] = ()
    """Labels of variants that its difference to is shown, too: its control, or a model that it is said to beat."""
    vectors: Vectors | None = None
    """The field vectors that it gets, as `language.vectors`. Unset: none, it knows no language."""


@dataclass(frozen=True)
class SearchRule:
    """How `compare` chooses the setting of each variant: as many trials for each, by validation AUC."""

    learning_rate: tuple[Rate, ...] = ()
    """Each is tried once with each variant. Empty: no search, `train.learning_rate` for all."""
    steps: Annotated[int, Interval(ge=1)] | None = None
    """Of a trial. Unset: as many as `train.steps`."""
    trials: Annotated[int, Interval(ge=2)] | None = None
    """Draws from all lists of this table, each value as often as the others. Unset: the learning rates alone."""
    weight_decay: tuple[Annotated[float, Interval(ge=0)], ...] = ()
    """Values to draw from. Empty: `train.weight_decay`."""
    model: dict[str, Any] = field(default_factory=dict)
    """Key of a model's config -> values to draw from, for the variants that have it and where it is not 0 or false."""

    def __post_init__(self) -> None:
        rates = self.learning_rate
        if len(rates) == 1 or len(set(rates)) < len(rates):
            raise ValueError(
                f"learning_rate: got {list(rates)}, expected none or at least two, all different"
            )
        drawn = {"weight_decay": self.weight_decay, "model": self.model}
        for name, given in drawn.items():
            if given and self.trials is None:
                raise ValueError(f"{name}: is drawn from, but there is no number of trials")
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
    """What a search chooses.

    Attributes:
        learning_rate: of `TrainRule`.
        weight_decay: of `TrainRule`.
        config: keys of the model's config.
    """

    learning_rate: float
    weight_decay: float
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A variant trained with several values of one key; the learning rate stays the variant's."""

    label: str
    """Its name in tables and plots."""
    variant: str
    """Label of the variant it starts from."""
    key: str
    """Of the model's config; or "train.share"."""
    values: tuple[Any, ...]
    """Values of the key, at least two."""
    seeds: Annotated[int, Interval(ge=1)] | None = None
    """Trainings of each value. Unset: as many as of each variant."""

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"values: got {list(self.values)}, expected at least two")


def with_llm_dim(model: ModelChoice, language: LanguageRule | None) -> ModelChoice:
    """The model with the width of its field vectors, if it is one that reads them and does not say."""
    config = model.config
    if language is None or "llm_dim" in config or not (config.get("fre") or config.get("fie")):
        return model
    return replace(model, config={**config, "llm_dim": language.dim})


def nest_models(values: dict[str, Any]) -> list[str]:
    """Move a model table's keys, all but its name, into `config`; problems with them."""
    problems: list[str] = []
    if isinstance(values.get("model"), dict):
        values["model"], found = _nested(values["model"], "model")
        problems += found
    if isinstance(values.get("variant"), list):
        values["variant"] = [dict(v) if isinstance(v, dict) else v for v in values["variant"]]
        for place, variant in enumerate(values["variant"]):
            if isinstance(variant, dict) and isinstance(variant.get("model"), dict):
                variant["model"], found = _nested(variant["model"], f"variant[{place}].model")
                problems += found
    return problems


def _nested(table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    from models.registry import MODELS  # here: it imports torch, and most of the builder needs none

    config = {key: value for key, value in table.items() if key != "name"}
    nested = {"config": config} | ({"name": table["name"]} if "name" in table else {})
    name = table.get("name")
    if not isinstance(name, str):
        return nested, []  # reported by the check of types
    if name not in MODELS:
        return nested, [f"{where}.name: {UnknownModelError(name, MODELS)}"]
    return nested, config_problems(MODELS[name].config, config, where)


def vector_problems(
    model: ModelChoice, variants: Sequence[Variant], language: LanguageRule | None
) -> list[str]:
    """Models that read field vectors which nobody makes, and vectors that no language model makes."""
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
    """Labels that are not unique, and sweeps and searches of what is not there."""
    problems = []
    for kind, entries in (("variant", variants), ("sweep", sweeps)):
        labels = [entry.label for entry in entries]
        for place, label in enumerate(labels):
            if label in labels[:place]:
                problems.append(f"{kind}[{place}].label: {label!r} is there twice")
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
            problems.append(f"search.model.{key}: no variant's model has this key{hint}")
            continue
        for place, value in enumerate(values):
            found = config_problems(having[0], {key: value})
            problems += [f"search.model.{key}[{place}]: {problem}" for problem in found]
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
