"""Plain values (as TOML gives them) -> frozen dataclasses, with every problem found before any is reported.

A class documents its keys as attribute docstrings and limits numbers by `Annotated[int, Interval(1)]`.
"""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from models.contract.errors import did_you_mean

Config = TypeVar("Config")
NOT_A_KEY = {"not a key": True}
"""Metadata of a field that no file may set."""


@dataclass(frozen=True)
class Interval:
    """Limits of a number.

    Attributes:
        low: smallest value.
        high: largest value.
        is_open: `low` itself is not allowed.
    """

    low: int | float
    high: int | float = math.inf
    is_open: bool = False

    def __contains__(self, value: int | float) -> bool:
        return (self.low < value if self.is_open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.is_open else f"at least {self.low:g}"
        return low if math.isinf(self.high) else f"{low} and at most {self.high:g}"


def config_problems(config_class: type, values: Mapping[str, Any], where: str = "") -> list[str]:
    """Everything wrong with `values` as the fields of `config_class`: a sentence each, none if all is well.

    Args:
        config_class: a dataclass; its fields' annotations say what is expected.
        values: key -> value, as TOML gives them.
        where: dotted name of the table, for the sentences.
    """
    hints = _field_hints(config_class)
    problems = []
    for key in values:
        if key not in hints:
            known = ", ".join(hints) or "none"
            name = _join(where, key)
            problems.append(f"{name}: unknown key; known: {known}{did_you_mean(key, hints)}")
    for field in _keys(config_class):
        name = _join(where, field.name)
        if field.name in values:
            problems += _value_problems(hints[field.name], values[field.name], name)
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"{name}: missing, expected {_describe(hints[field.name])}")
    return problems or _own_problems(config_class, values, where)


def make_config(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """An instance of a dataclass from values without problems; lists become tuples, whole numbers floats."""
    hints = _field_hints(config_class)
    return config_class(**{key: _convert(hints[key], value) for key, value in values.items()})


def _own_problems(config_class: type, values: Mapping[str, Any], where: str) -> list[str]:
    """What the class itself refuses, in its `__post_init__`."""
    try:
        make_config(config_class, values)
    except ValueError as error:
        return [_join(where, str(error))]
    return []


def _field_hints(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class, include_extras=True)
    return {field.name: hints[field.name] for field in _keys(config_class)}


def _keys(config_class: Any) -> list[Field[Any]]:
    """Fields that values may name: all but those marked as `NOT_A_KEY`."""
    return [field for field in fields(config_class) if field.metadata != NOT_A_KEY]


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _value_problems(hint: Any, value: Any, name: str) -> list[str]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _value_problems(args[0], value, name) or _limit_problems(hint, value, name)
    if origin in (Union, types.UnionType):
        arms = [_value_problems(arm, value, name) for arm in args if arm is not types.NoneType]
        return min(arms, key=len)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return config_problems(hint, value, name)
    if origin is tuple and isinstance(value, list):
        return _tuple_problems(hint, value, name)
    if origin is dict and isinstance(value, dict):
        parts = [_value_problems(args[1], part, _join(name, key)) for key, part in value.items()]
        return [problem for problems in parts for problem in problems]
    if _fits(hint, value):
        return []
    guess = did_you_mean(value, args) if origin is Literal and isinstance(value, str) else ""
    return [f"{name}: got {value!r}, expected {_describe(hint)}{guess}"]


def _tuple_problems(hint: Any, value: list[Any], name: str) -> list[str]:
    kinds = get_args(hint)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        return [f"{name}: got {value!r}, expected {_describe(hint)}"]
    pairs = enumerate(zip(kinds, value, strict=True))
    return [
        problem
        for place, (kind, part) in pairs
        for problem in _value_problems(kind, part, f"{name}[{place}]")
    ]


def _limit_problems(hint: Any, value: Any, name: str) -> list[str]:
    if all(value in limit for limit in hint.__metadata__ if isinstance(limit, Interval)):
        return []
    return [f"{name}: got {value!r}, expected {_describe(hint)}"]


def _fits(hint: Any, value: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if hint is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and isinstance(value, kind)


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [str(limit) for limit in hint.__metadata__ if isinstance(limit, Interval)]
        return ", ".join([_describe(args[0]), *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(arm) for arm in args if arm is not types.NoneType)
    if origin is Literal:
        return "one of: " + ", ".join(str(choice) for choice in args)
    if origin is tuple:
        of_any_length = len(args) == 2 and args[1] is Ellipsis
        kinds = [_describe(kind) for kind in (args[:1] if of_any_length else args)]
        return f"a list of: {', '.join(kinds)}" + (
            "" if of_any_length else f" ({len(args)} values)"
        )
    if is_dataclass(hint) or origin is dict:
        return "a table"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(hint, str(hint))


def _convert(hint: Any, value: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _convert(args[0], value)
    if origin in (Union, types.UnionType):
        arm = next(arm for arm in args if not _value_problems(arm, value, ""))
        return _convert(arm, value)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return make_config(hint, value)
    if origin is tuple and isinstance(value, list):
        kinds = (args[0],) * len(value) if args[1:] == (Ellipsis,) else args
        return tuple(_convert(kind, part) for kind, part in zip(kinds, value, strict=True))
    return float(value) if hint is float else value


Share = Annotated[float, Interval(0, 1)]
"""A number from 0 to 1."""
