"""The lines of `[data]`, `[data.columns]` and `[data.csv]`: what was found, and why each key is as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from builder.ingest.columns import toml_key
from builder.propose.clock import Clock
from builder.propose.fields import Fields
from builder.propose.looks import Seen
from builder.propose.roles import Roles, sort_kinds
from builder.propose.text import Line, comment
from builder.recipe.reading import CsvRule

CSV_WHY = {
    "separator": "between columns",
    "decimal_comma": "3,5 is three and a half",
    "encoding": "the file is no UTF-8",
    "names": "the file has no header line; rename these as you like",
    "nulls": "words that were taken for missing values",
}
KINDS_WHY = {
    "positive": "targets with label 1, and in histories",
    "negative": "targets with label 0, in no history; without any, negatives are drawn",
    "history": "in histories only",
    "cancel": "takes the user's last positive of the item back",
    "drop": "left out",
}
ITEM_SHARE = 0.75
"""Place on the scale of ratings from which on a rating is suggested as a positive: 4 of 5, 8 of 10."""


@dataclass(frozen=True)
class Beside:
    """A table beside the events, with one row per item or user.

    Attributes:
        file: as the recipe names it.
        key: column of the id.
        fields: its columns.
    """

    file: str
    key: str
    fields: Fields


@dataclass(frozen=True)
class Found:
    """What was found out about a log, before its events are counted.

    Attributes:
        file: the events as the recipe names them.
        seen: the log.
        roles: what each column is.
        fields: the columns without a role.
        items: table of the items; None: there is none.
        users: table of the users; None: there is none.
        positive_from: smallest rating that is a positive; None: the log has no ratings.
        nulls: columns that every event needs -> rows without a value in them.
    """

    file: str
    seen: Seen
    roles: Roles
    fields: Fields
    items: Beside | None = None
    users: Beside | None = None
    positive_from: float | None = None
    nulls: Mapping[str, int] | None = None


def threshold(seen: Seen, rating: str) -> tuple[float, str]:
    """The rating from which on an event is a positive, by the scale; and how many ratings there are of each."""
    look = seen.look(rating)
    values = seen.sample[rating].drop_nulls()
    counts = values.value_counts(sort=False).sort(rating)
    at_least = look.low + ITEM_SHARE * (look.high - look.low)
    choice = min(float(value) for value in counts[rating] if float(value) >= at_least)
    shown = counts if len(counts) <= 12 else counts.tail(12)
    text = ", ".join(
        f"{value:g}: {number / len(values):.0%}" for value, number in shown.iter_rows()
    )
    return choice, text


def source_lines(found: Found) -> list[Line]:
    """Files, times, filter and missing values: what reading the log needs."""
    lines = [
        Line("source", "files", ""),
        Line("events", found.file, f"{found.seen.rows:,} rows"),
    ]
    for key, table in (("items", found.items), ("users", found.users)):
        if table is not None:
            lines.append(Line(key, table.file, f"one row per {table.key}"))
    lines += _of_times(found.roles.clock)
    lines += _of_labels(found)
    if found.nulls:
        counts = ", ".join(f"{number:,} without {column}" for column, number in found.nulls.items())
        why = f"rows that are no events are left out: {counts}"
        lines.append(Line("nulls", dict.fromkeys(found.nulls, "drop"), why))
    return lines


def _of_times(clock: Clock) -> list[Line]:
    lines = []
    if clock.unit:
        lines.append(Line("time_unit", clock.unit, f"{clock.column}: {clock.why}"))
    elif clock.time_format:
        lines.append(Line("time_format", clock.time_format, f"{clock.column}: {clock.why}"))
    if clock.column and not clock.unit:
        zone = 'time_zone = "Europe/Berlin"'
        lines.append(comment(f"times without a zone are read as UTC; if they are local: {zone}"))
    return lines


def _of_labels(found: Found) -> list[Line]:
    """What is a positive: kinds of events, or ratings from a threshold on."""
    roles, lines = found.roles, []
    if found.positive_from is not None and roles.rating is not None:
        shares = threshold(found.seen, roles.rating)[1]
        what = f"{roles.rating} from here on is a 1, below a 0 (a dislike is no positive)"
        lines.append(Line("positive_from", found.positive_from, f"CHOOSE: {what}. {shares}"))
        between = "ratings between it and positive_from say neither and are dropped"
        lines.append(comment(f"negative_to = ...: {between}"))
    return lines


def kind_lines(found: Found) -> list[Line]:
    """The section `[data.event_kinds]`; empty where all events mean the same."""
    kind = found.roles.kind
    if kind is None:
        return []
    counts = all_kinds(found.seen, kind)
    kinds = sort_kinds([name for name, _ in counts])
    kinds["drop"] = kinds.pop("unknown")
    if not kinds["positive"]:
        kinds["positive"] = kinds["drop"][:1]
        kinds["drop"] = kinds["drop"][1:]
    shares = ", ".join(f"{name}: {number:,}" for name, number in counts)
    lines = [
        comment(f"CHOOSE what each kind means, by its name so far. Rows: {shares}"),
        Line("column", kind, ""),
    ]
    return lines + [Line(key, kinds[key], why) for key, why in KINDS_WHY.items() if kinds[key]]


def all_kinds(seen: Seen, kind: str) -> list[tuple[str, int]]:
    """Kinds of events and their numbers in the whole log, the most frequent first."""
    counts = seen.lazy.select(pl.col(kind).cast(pl.String).drop_nulls()).collect()[kind]
    return [(str(name), int(number)) for name, number in counts.value_counts(sort=True).iter_rows()]


def field_lines(found: Found, has_days_only: bool) -> list[Line]:
    """Fields of items, users and context, and why columns are left out."""
    beside_items = found.items.fields if found.items else None
    item = beside_items.item if beside_items else found.fields.item
    user = found.users.fields.item if found.users else ()
    has_clock = bool(found.roles.clock.column)
    times = ("weekday",) if has_days_only else ("hour", "weekday")
    own = times if has_clock else ()
    lines = [comment(f"{name}: {why}") for name, why in found.fields.comments.items()]
    for table in (found.items, found.users):
        if table is not None:
            lines += [
                comment(f"{table.file}: {name}: {why}")
                for name, why in table.fields.comments.items()
            ]
    return [
        *lines,
        Line("item_fields", item, "the item's id and popularity are always added"),
        Line("user_fields", user or (() if has_clock else ("user",)), ""),
        Line(
            "context_fields",
            (*own, *found.fields.context),
            "of the time, in UTC" if own else "",
        ),
        Line("min_item_count", 3, "rarer items share one embedding"),
    ]


def numeric_lines(found: Found) -> list[Line]:
    """The section `[data.fields]`: fields whose numbers are put into buckets; empty where there are none."""
    numeric = set(found.fields.numeric)
    for table in (found.items, found.users):
        numeric |= set(table.fields.numeric) if table else set()
    values = as_values(field_lines(found, has_days_only=False))
    names = [
        name for key in ("item_fields", "user_fields", "context_fields") for name in values[key]
    ]
    rule = {"kind": "numeric"}
    return [Line(toml_key(name), rule, "") for name in dict.fromkeys(names) if name in numeric]


def column_lines(found: Found) -> list[Line]:
    """The section `[data.columns]`."""
    seen, roles = found.seen, found.roles
    lines = [
        Line("user", roles.user, _of_ids(seen, roles.user)),
        Line("item", roles.item, _of_ids(seen, roles.item)),
        Line("time", roles.clock.column, roles.clock.why),
    ]
    if roles.label is not None:
        share = float(seen.sample[roles.label].cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
        lines.append(
            Line(
                "label",
                roles.label,
                f"{share:.2%} are 1; 0 is shown only: the log has its own negatives",
            )
        )
    elif roles.rating is not None:
        lines.append(Line("label", roles.rating, "ratings, see positive_from"))
    if roles.quantity is not None:
        returns = int((seen.sample[roles.quantity] <= 0).sum())
        why = f"{returns / len(seen.sample):.2%} of the rows have 0 or less: returns, which are dropped"
        lines.append(Line("quantity", roles.quantity, why))
    for key, table, own in (
        ("item_id", found.items, roles.item),
        ("user_id", found.users, roles.user),
    ):
        if table is not None and table.key != own:
            lines.append(Line(key, table.key, "name of the id in that file"))
    title = found.items.fields.title if found.items else found.fields.title
    if title is not None:
        lines.append(Line("item_text", title, "display text; no model reads it"))
    return lines


def _of_ids(seen: Seen, name: str) -> str:
    look = seen.look(name)
    of = (
        f"{look.rows:,} rows"
        if look.rows == seen.rows
        else f"{look.rows:,} rows that were looked at"
    )
    return f"{look.distinct:,} different in {of}"


def csv_lines(rule: CsvRule | None) -> list[Line]:
    """The section `[data.csv]`; empty where files are written as usual."""
    usual = CsvRule()
    given = {key: getattr(rule, key) for key in CSV_WHY} if rule else {}
    return [
        Line(key, value, CSV_WHY[key])
        for key, value in given.items()
        if value != getattr(usual, key)
    ]


def as_values(lines: list[Line]) -> dict[str, Any]:
    """Keys and values of lines, as TOML gives them."""
    return {
        line.key: list(line.value) if isinstance(line.value, tuple) else line.value
        for line in lines
        if line.key
    }
