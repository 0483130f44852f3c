"""Plain values (as TOML gives them) -> frozen dataclasses, with every problem listed at once.

pydantic validates; this module words its errors as `key: what came, what was expected` and suggests the closest known
key or value. The classes are standard dataclasses, so that the model configs in `models/`, which may not import
pydantic, are validated like the sections of a recipe. Numbers are limited by `Annotated[int, Interval(ge=1)]`, keys are
documented by docstrings under them, and what depends on several keys is checked by `__post_init__`, which raises
`ValueError("key: got ..., expected ...")`.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from builder.recipe.limits import NOT_A_KEY
from models.contract.errors import did_you_mean, shown

Config = TypeVar("Config")
Place = tuple[int | str, ...]
TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_long": "a list of {max_length} values",
}
"""pydantic's types of errors -> what was expected."""


def config_problems(config_class: type, values: Mapping[str, Any], where: str = "") -> list[str]:
    """Every problem with `values` as the keys of `config_class`, one sentence each.

    Args:
        config_class: a dataclass.
        values: key -> value, as TOML gives them.
        where: dotted name of the table, for the sentences.
    """
    hidden = values.keys() - set(_keys(config_class))
    hidden &= {field.name for field in fields(config_class)}
    problems = [_unknown_key(config_class, (name,), where) for name in sorted(hidden)]
    try:
        make_config(config_class, {key: values[key] for key in values if key not in hidden})
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_sentence(config_class, detail, where) for detail in details]
    return problems


def make_config(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """An instance of a dataclass: tables become dataclasses, lists tuples, whole numbers floats where needed.

    Raises:
        ValidationError: pydantic's; `config_problems` words it.
    """
    # Strict, so that "3" and 3.0 are no whole numbers. As JSON, where strict still takes tables and lists.
    text = to_json(values, inf_nan_mode="strings")
    config: Config = _adapter(cast(Any, config_class)).validate_json(
        text, strict=True, extra="forbid"
    )
    return config


@lru_cache
def _adapter(
    hint: Any,
) -> Any:  # Any: beartype, which checks annotations in tests, cannot read TypeAdapter's
    return TypeAdapter(hint)


def _sentence(config_class: type, error: ErrorDetails, where: str) -> str:
    place, kind = error["loc"], error["type"]
    if kind == "unexpected_keyword_argument":
        return _unknown_key(config_class, place, where)
    name = _dotted(place, where)
    if kind == "value_error":
        text = str(error["ctx"]["error"])  # raised by a class's own check, begins with a key
        return f"{name}.{text}" if name else text
    if kind == "missing":
        return f"{name}: missing, expected {_expected_at(config_class, place)}"
    return f"{name}: got {shown(error['input'])}, expected {_expected(error)}"


def _unknown_key(config_class: type, place: Place, where: str) -> str:
    *table, key = place
    known = _keys(_hint_at(config_class, tuple(table)))
    hint = did_you_mean(str(key), known)
    return f"{_dotted(place, where)}: unknown key; known: {', '.join(known) or 'none'}{hint}"


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        got = error["input"]
        guess = did_you_mean(got, choices) if isinstance(got, str) else ""
        return f"one of: {', '.join(choices)}{guess}"
    if error["type"] in TYPES:
        return TYPES[error["type"]].format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Input should be ")


def _expected_at(config_class: type, place: Place) -> str:
    """What a missing value should be: what pydantic says of a null there."""
    try:
        _adapter(_hint_at(config_class, place)).validate_json("null", strict=True)
    except ValidationError as error:
        return _expected(error.errors(include_url=False)[0])
    return "a value"


def _hint_at(hint: Any, place: Place) -> Any:
    """The type at a place inside a dataclass."""
    for step in place:
        arguments = get_args(hint)
        if isinstance(step, int):
            hint = arguments[0] if arguments[-1] is Ellipsis else arguments[step]
        elif is_dataclass(hint) and isinstance(hint, type):
            hint = get_type_hints(hint, include_extras=True)[step]
        else:
            hint = arguments[1]
        if type(None) in get_args(hint) and get_origin(hint) is not Annotated:
            hint = get_args(hint)[0]
    return hint


def _keys(config_class: Any) -> list[str]:
    """Fields that a file may set."""
    return [field.name for field in fields(config_class) if field.metadata != NOT_A_KEY]


def _dotted(place: Place, where: str) -> str:
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in place]
    return (where + "".join(parts)).removeprefix(".")
