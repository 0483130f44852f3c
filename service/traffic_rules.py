"""What operators write about traffic, in JSON or a file of it: experiments and shadows, checked at the start."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Rule(BaseModel):
    """Base of what operators write."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ShadowRule(Rule):
    """Score a share of one model's requests with another one, too."""

    model: Name
    """The model whose requests these are."""

    shadow: Name
    """The model that scores them as well; nobody gets its scores."""

    share: Share
    """Of the requests: more than 0, up to 1."""


class Experiment(Rule):
    """Split users among models."""

    weights: dict[Name, Weight]
    """Model -> its weight; shares are weights over their sum."""

    salt: str | None = None
    """What users are drawn by; unset: the experiment's name."""

    default: bool = False
    """Whether requests that name no model belong to it; one experiment at most."""

    @field_validator("weights")
    @classmethod
    def _some(cls, weights: dict[str, float]) -> dict[str, float]:
        if not sum(weights.values()):
            raise ValueError("at least one model with a weight above 0")
        return weights


Kind = TypeVar("Kind")


def read_rules(kind: type[Kind], value: object) -> Kind:
    """Read JSON, or a file of JSON that is named instead.

    Raises:
        ValueError: says what is wrong, and where.
    """
    if not isinstance(value, str):
        return TypeAdapter(kind).validate_python(value)
    text = value.strip()
    if not text.startswith(("{", "[")):
        try:
            text = Path(text).read_text()
        except OSError as error:
            raise ValueError(f"JSON, or a file of it ({error.strerror}: {value!r})") from error
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "all of it"
    return f"at {where}: got {first['input']!r}, expected: {first['msg']}"


def read_shadows(value: object) -> tuple[ShadowRule, ...]:
    """Rules for shadows.

    Raises:
        ValueError: a rule is wrong, there twice, or a model's own shadow.
    """
    rules = read_rules(tuple[ShadowRule, ...], value)
    pairs = [(rule.model, rule.shadow) for rule in rules]
    for model, shadow in pairs:
        if model == shadow:
            raise ValueError(f"model and shadow are both {model!r}")
        if pairs.count((model, shadow)) > 1:
            raise ValueError(f"shadow {shadow!r} of {model!r} comes twice")
    return rules


def read_split(value: object) -> dict[str, Experiment]:
    """Experiments by name.

    Raises:
        ValueError: one is wrong, or more than one is the default.
    """
    experiments = read_rules(dict[str, Experiment], value)
    defaults = [name for name, one in experiments.items() if one.default]
    if len(defaults) > 1:
        raise ValueError(f"one default at most, not {', '.join(defaults)}")
    for name, one in experiments.items():
        if name in one.weights:
            raise ValueError(f"an experiment may not be called as one of its models: {name!r}")
    return experiments
