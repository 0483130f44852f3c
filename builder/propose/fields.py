"""Which of the other columns can be fields of items or of the context, and why the rest is left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from builder.propose.looks import Look, Seen
from builder.propose.roles import Roles
from builder.propose.words import is_named, words_of

MOST_VALUES = 1_000
"""Most values of a context field that is suggested."""
MOST_ITEM_VALUES = 20_000
LONG_TEXT = 60
"""Characters: longer texts are sentences."""
FEWEST_GROUPS = 20
CALENDAR = {
    "year",
    "month",
    "week",
    "day",
    "hour",
    "weekday",
    "date",
    "time",
    "timestamp",
    "quarter",
}
SEPARATORS = ("|", ";", ",")
IS_ID = {"id", "ids", "uuid", "guid", "upc", "ean", "url", "link"}


@dataclass(frozen=True)
class Fields:
    """What the recipe says of the columns without a role.

    Attributes:
        item: fields of the item.
        context: fields of the context.
        numeric: those of them whose numbers are put into buckets.
        title: display text of the item; None: no column is.
        comments: every column that was looked at -> why it is a field, or why it is left out.
    """

    item: tuple[str, ...]
    context: tuple[str, ...]
    numeric: tuple[str, ...]
    title: str | None
    comments: dict[str, str]


def find_fields(seen: Seen, roles: Roles) -> Fields:
    """Sort the columns of a log without a role."""
    sorted_columns = {name: _sort(seen, roles, seen.look(name)) for name in roles.others}
    titles = [name for name, (place, _) in sorted_columns.items() if place == "title"]
    comments = {name: why for name, (_, why) in sorted_columns.items()}
    comments |= {name: _of_list(seen.look(name)) for name in roles.lists}
    return Fields(
        item=tuple(name for name, (place, _) in sorted_columns.items() if place == "item"),
        context=tuple(name for name, (place, _) in sorted_columns.items() if place == "context"),
        numeric=_floats(seen),
        title=titles[0] if titles else None,
        comments=comments,
    )


def table_fields(seen: Seen, key: str) -> Fields:
    """Fields of a table with one row per item or user.

    Args:
        seen: the table.
        key: column of the id.
    """
    fields, titles, comments = [], [], {}
    for look in seen.looks:
        problem = _unusable(look)
        if look.name == key:
            continue
        if look.kind == "text" and is_named(look.name, "title") and look.is_near_unique:
            titles.append(look.name)
            comments[look.name] = "display text, one per row; no model reads it"
        elif problem is None and look.kind == "float":
            fields.append(look.name)
            comments[look.name] = "numbers, in buckets"
        elif problem is None and look.distinct <= 0.5 * look.rows:
            fields.append(look.name)
            comments[look.name] = f"{look.distinct:,} values{_multi(seen.raw[look.name])}"
        else:
            comments[look.name] = (
                f"left out: {problem or f'{look.distinct:,} values in {look.rows:,} rows'}"
            )
    return Fields(tuple(fields), (), _floats(seen), titles[0] if titles else None, comments)


def _sort(seen: Seen, roles: Roles, look: Look) -> tuple[str, str]:
    """Where a column belongs ("item", "context", "title" or "out"), and why."""
    problem = _unusable(look)
    of_item = _is_constant(seen.sample, roles.item, look.name)
    if look.kind == "text" and of_item and is_named(look.name, "title"):
        return "title", "display text of the item; no model reads it"
    if problem is not None:
        return "out", f"left out: {problem}"
    if of_item and look.kind == "float":
        return "item", "one number per item, in buckets"
    if of_item and look.distinct <= MOST_ITEM_VALUES:
        return "item", f"one value per item, {look.distinct:,} values{_multi(seen.raw[look.name])}"
    return _as_context(seen, roles, look)


def _as_context(seen: Seen, roles: Roles, look: Look) -> tuple[str, str]:
    """As `_sort`, for a column that differs between events of one item."""
    if set(words_of(look.name)) & CALENDAR:
        return (
            "out",
            "left out: part of the time, and a value that training has not seen says nothing",
        )
    if _is_constant(seen.sample, roles.user, look.name):
        return "out", (
            "left out: one value per user; for a field of the user, write a file with one row per user (data.users)"
        )
    if is_named(look.name, "later"):
        return (
            "out",
            "left out: probably known only after the event, so that no request could send it",
        )
    if look.kind == "float":
        return "context", "numbers, in buckets; every request must send it"
    if look.distinct > MOST_VALUES:
        return "out", f"left out: {look.distinct:,} values, too many for a field of the context"
    return "context", f"{look.distinct:,} values; every request must send it"


def _unusable(look: Look) -> str | None:
    """Why no field can be made of a column; None: it can."""
    if look.kind == "list":
        return "lists, and a log has one row per event: explode lists of shown or taken items into rows to use them"
    if look.kind == "other":
        return f"values of type {look.kind}"
    if look.distinct <= 1:
        return "one value only"
    if look.kind == "time":
        return "a second column of times"
    if look.kind == "text" and look.length > LONG_TEXT:
        return f"texts of {look.length:.0f} characters on average, nearly all different"
    if look.is_near_unique and look.kind != "float":
        return f"nearly unique: {look.distinct:,} values in {look.rows:,} rows"
    if set(words_of(look.name)) & IS_ID and look.distinct > MOST_VALUES:
        return f"an id with {look.distinct:,} values"
    return None


def _floats(seen: Seen) -> tuple[str, ...]:
    return tuple(look.name for look in seen.looks if look.kind == "float")


def _of_list(look: Look) -> str:
    named = f"names lists, baskets or sessions ({look.distinct:,})"
    return f"left out: {named}; events of one user at one time are one list already"


def _multi(values: pl.Series) -> str:
    """A warning where many texts hold several values with a separator between them."""
    if values.dtype != pl.String:
        return ""
    for mark in SEPARATORS:
        share = values.str.contains(mark, literal=True).mean()
        if isinstance(share, float) and share > 0.2:
            return f"; {share:.0%} hold several, with {mark!r} between: each combination is a value of its own"
    return ""


def _is_constant(frame: pl.DataFrame, key: str, column: str) -> bool:
    """Whether nearly every group of a key with two rows or more has one value of a column."""
    if frame[column].dtype.is_nested():
        return False
    groups = frame.group_by(key).agg(values=pl.col(column).n_unique(), rows=pl.len())
    groups = groups.filter(pl.col("rows") > 1)
    return len(groups) >= FEWEST_GROUPS and int((groups["values"] == 1).sum()) >= 0.99 * len(groups)


def names_of(fields: Sequence[str]) -> str:
    """A list of names as TOML writes it."""
    return "[" + ", ".join(f'"{name}"' for name in fields) + "]"
