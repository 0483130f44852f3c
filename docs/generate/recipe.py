"""Reference of the recipe's keys, from the dataclasses that a recipe is read into."""

import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from builder.recipe.include import DEFAULTS, INCLUDE
from builder.recipe.limits import NOT_A_KEY
from builder.recipe.recipe import Recipe
from docs.generate.attribute_docs import attribute_docs
from docs.generate.markdown import code, first_line, table
from models.registry import MODELS

INTRODUCTION = """# Recipe keys

A recipe is a TOML file. Unknown keys are rejected, and all problems are listed at once. `builder/recipes/`
holds recipes to copy from; [Your own log](../your-own-log.md) walks through one.

This page is generated from `builder/recipe/` and from the configurations of the models. Two keys are resolved
before the others are read:

"""
RESOLVED_FIRST = (
    (
        code(INCLUDE),
        "text",
        "unset",
        "A file beside the recipe: its tables where the recipe has none of that name; "
        "its lists of variants and sweeps come before the recipe's own.",
    ),
    (
        code(f"[{DEFAULTS}]"),
        "table",
        "empty",
        "Model keys of every variant that does not set them itself.",
    ),
)
"""Keys that are resolved before the rest is read: rows of the first table."""


def sections() -> Iterator[tuple[str, type]]:
    """Dotted name and class of every section, the top level first (with an empty name)."""
    seen: list[tuple[str, type]] = [("", Recipe)]
    while seen:
        name, owner = seen.pop(0)
        yield name, owner
        hints = get_type_hints(owner)
        for key in keys(owner):
            for inner in _dataclasses_of(hints[key.name]):
                seen.append((f"{name}.{key.name}".lstrip("."), inner))


def keys(owner: type) -> list[Field[Any]]:
    """Fields of a section that are keys of a recipe."""
    return [key for key in fields(owner) if key.metadata != NOT_A_KEY]


def _dataclasses_of(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
    for argument in get_args(hint):
        yield from _dataclasses_of(argument)


def type_text(hint: Any) -> str:
    """A type as a person writes it in TOML's terms."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [text for extra in arguments[1:] if (text := limit_text(extra))]
        return " ".join([type_text(arguments[0]), *limits])
    if origin is Literal:
        return ", ".join(f'"{value}"' for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(part) for part in arguments if part is not type(None))
    if origin is tuple:
        inner = [type_text(part) for part in arguments if part is not Ellipsis]
        return "list of " + (inner[0] if Ellipsis in arguments else f"[{', '.join(inner)}]")
    if origin is dict:
        return "table"
    names = {str: "string", int: "integer", float: "number", bool: "true or false"}
    return names.get(hint, "table" if is_dataclass(hint) else getattr(hint, "__name__", str(hint)))


def limit_text(extra: Any) -> str:
    """Bounds of a number, from one of annotated-types' classes."""
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = {word: getattr(extra, name, None) for name, word in words.items()}
    return " ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)


def default_text(key: Field[Any]) -> str:
    """The default; "required" if there is none."""
    if key.default is MISSING and key.default_factory is MISSING:
        return "required"
    value = key.default if key.default_factory is MISSING else key.default_factory()
    if value is None:
        return "unset"
    if is_dataclass(value):
        return "see its section"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple | list):
        return code(str(list(value)))
    return code(f'"{value}"' if isinstance(value, str) else f"{value}")


def section_table(owner: type) -> str:
    """Keys of one section."""
    hints, docs = get_type_hints(owner, include_extras=True), attribute_docs_of(owner)
    rows = [
        (
            code(key.name),
            type_text(hints[key.name]),
            default_text(key),
            docs.get(key.name) or _section_text(hints[key.name]),
        )
        for key in keys(owner)
    ]
    return table(["key", "type", "default", "meaning"], rows)


def _section_text(hint: Any) -> str:
    """Meaning of a key that is a section: the first line of its class."""
    return " ".join(first_line(inner.__doc__) for inner in _dataclasses_of(hint))


def attribute_docs_of(owner: type) -> dict[str, str]:
    """Docs of a class's attributes, inherited ones too."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if is_dataclass(base):
            found |= attribute_docs(base)
    return found


def page() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION, table(["key", "type", "default", "meaning"], RESOLVED_FIRST), "\n"]
    for name, owner in sections():
        parts += [f"## `[{name}]`" if name else "## Top level", "\n\n"]
        parts += [first_line(owner.__doc__), "\n\n", section_table(owner), "\n"]
    parts.append("## Keys of `[model]` by model\n\nBeside `name`, each model has its own keys.\n\n")
    for name, entry in MODELS.items():
        config = entry.config
        parts += [
            f"### `{name}`\n\n",
            first_line(config.__doc__),
            "\n\n",
            section_table(config),
            "\n",
        ]
    return "".join(parts)
