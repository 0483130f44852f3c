"""Keys that recipes share: an included file, and defaults for all variants.

include = "variants/long-history.toml"      # its tables are used where the recipe has none of that name; its lists
                                            # (variants, sweeps) come before the recipe's own

[variant_defaults]                          # model keys of every variant that does not set them
dropout = 0.1
"""

import tomllib
from pathlib import Path
from typing import Any

from builder.errors import RecipeError

INCLUDE, DEFAULTS = "include", "variant_defaults"


def with_included(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's plain values with its included tables, and with the defaults filled into each variant.

    Args:
        values: the recipe as TOML gives it.
        path: the recipe's file; the included file is looked for beside it.

    Raises:
        RecipeError: the included file is missing or is not TOML, or `variant_defaults` is not a table.
    """
    values = {**values}
    if INCLUDE in values:
        values = _joined(_read(values.pop(INCLUDE), path), values)
    defaults = values.pop(DEFAULTS, {})
    if not isinstance(defaults, dict):
        raise RecipeError(str(path), [f"{DEFAULTS}: got {defaults!r}, expected a table"])
    if defaults and isinstance(values.get("variant"), list):
        values["variant"] = [_filled(variant, defaults) for variant in values["variant"]]
    return values


def _joined(included: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    joined = {**included, **own}
    for key in included.keys() & own.keys():
        if isinstance(included[key], list) and isinstance(own[key], list):
            joined[key] = [*included[key], *own[key]]
    return joined


def _read(name: Any, path: Path) -> dict[str, Any]:
    if not isinstance(name, str):
        raise RecipeError(str(path), [f"{INCLUDE}: got {name!r}, expected the name of a file"])
    place = path.resolve().parent / name
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            str(path), [f"{INCLUDE}: got {place} ({error.strerror}), expected a readable file"]
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            str(path), [f"{INCLUDE}: got {place}, which is not TOML ({error}), expected TOML"]
        ) from error


def _filled(variant: Any, defaults: dict[str, Any]) -> Any:
    if isinstance(variant, dict) and isinstance(variant.get("model"), dict):
        return {**variant, "model": {**defaults, **variant["model"]}}
    return variant  # the validation reports it
