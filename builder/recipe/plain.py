"""Plain values -> a recipe that was checked before: what `Recipe.to_dict` wrote, without pydantic."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from builder.recipe.recipe import Recipe


def recipe_from_plain(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_dict` gave as JSON types; `path` and `publish` are the defaults."""
    recipe: Recipe = _as(Recipe, values)
    return recipe


def _as(hint: Any, value: Any) -> Any:
    """A value as the type that a dataclass's field says: tables become dataclasses, lists tuples."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
        return _as(hint, value)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{name: _as(hints[name], own) for name, own in value.items()})  # type: ignore[operator]
    if get_origin(hint) is tuple:
        return tuple(_as(get_args(hint)[0], part) for part in value)
    if get_origin(hint) is dict:
        return {key: _as(get_args(hint)[1], own) for key, own in value.items()}
    return float(value) if hint is float else value
