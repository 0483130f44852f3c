"""Experiments and shadows as operators define them, in JSON; validated when the service starts."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Rule(BaseModel):
    """Base of both kinds of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ShadowRule(Rule):
    """Score a share of one model's requests with a second model as well."""

    model: Name
    """The model whose requests are sampled."""

    shadow: Name
    """The second model; its scores are not returned to clients."""

    share: Share
    """Share of the requests: more than 0, at most 1."""


class Experiment(Rule):
    """Divide users among models."""

    weights: dict[Name, Weight]
    """Model -> weight; a model's share is its weight divided by the sum."""

    salt: str | None = None
    """Input of the hash that assigns users to models. Unset: the experiment's name."""

    default: bool = False
    """Whether requests that name no model belong to this experiment; true for at most one."""

    @field_validator("weights")
    @classmethod
    def _has_weight(cls, weights: dict[str, float]) -> dict[str, float]:
        if not sum(weights.values()):
            raise ValueError("at least one model with a weight above 0")
        return weights


Kind = TypeVar("Kind")


def read_rules(kind: type[Kind], value: object) -> Kind:
    """Read JSON, or a JSON file given by its path.

    Raises:
        ValueError: the file cannot be read, or its content is wrong; names the place.
    """
    if not isinstance(value, str):
        return TypeAdapter(kind).validate_python(value)
    text = value.strip()
    if not text.startswith(("{", "[")):
        try:
            text = Path(text).read_text()
        except OSError as error:
            raise ValueError(
                f"JSON or the path of a JSON file ({error.strerror}: {value!r})"
            ) from error
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the top level"
    return f"at {where}: got {first['input']!r}, expected: {first['msg']}"


def read_shadows(value: object) -> tuple[ShadowRule, ...]:
    """Rules for shadows.

    Raises:
        ValueError: a rule is wrong, appears twice, or names one model as model and shadow.
    """
    rules = read_rules(tuple[ShadowRule, ...], value)
    pairs = [(rule.model, rule.shadow) for rule in rules]
    for model, shadow in pairs:
        if model == shadow:
            raise ValueError(f"two different models, not {model!r} as model and as shadow")
        if pairs.count((model, shadow)) > 1:
            raise ValueError(f"shadow {shadow!r} of {model!r} once, not twice")
    return rules


def read_split(value: object) -> dict[str, Experiment]:
    """Experiments by name.

    Raises:
        ValueError: an experiment is wrong, or more than one is the default.
    """
    experiments = read_rules(dict[str, Experiment], value)
    defaults = [name for name, experiment in experiments.items() if experiment.default]
    if len(defaults) > 1:
        raise ValueError(f"at most one default, not {', '.join(defaults)}")
    for name, experiment in experiments.items():
        if name in experiment.weights:
            raise ValueError(f"another name for the experiment than that of its model {name!r}")
    return experiments
