"""`absorb init`: a log -> the text of a recipe, checked on the log itself, and what to look at in it."""

import os
import re
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from builder.errors import EventsError
from builder.ingest.clean import clean
from builder.ingest.columns import missing
from builder.ingest.sources.files import read_files
from builder.ingest.sources.scan import is_table, scan
from builder.ingest.times import as_date
from builder.propose import choices
from builder.propose.clock import Clock
from builder.propose.data_section import (
    Beside,
    Found,
    as_values,
    column_lines,
    csv_lines,
    field_lines,
    kind_lines,
    numeric_lines,
    source_lines,
    threshold,
)
from builder.propose.facts import Facts, count
from builder.propose.fields import find_fields, table_fields
from builder.propose.looks import look_at
from builder.propose.roles import Given, find_roles
from builder.propose.text import Line, section
from builder.recipe.recipe import Recipe, recipe_from
from models.contract.errors import did_you_mean

COMMON_NAMES = {
    *(
        "events",
        "ratings",
        "clicks",
        "transactions",
        "behaviors",
        "impressions",
        "reviews",
        "log",
        "data",
    ),
    *("purchases", "orders", "interactions", "history", ""),
}
"""Names of files that say nothing of whose log it is."""
MOST_TABLES = 20
Ask = Callable[[str, float], float]
"""Asks a person for a number: a question and the suggested answer -> the answer."""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        given: columns that were named.
        items: table with one row per item.
        users: table with one row per user.
        positive_from: smallest rating that is a positive; None: `ask`.
    """

    given: Given
    items: Path | None = None
    users: Path | None = None
    positive_from: float | None = None


@dataclass(frozen=True)
class Proposal:
    """A recipe for a log.

    Attributes:
        text: TOML.
        recipe: the same, checked.
        facts: what the log holds.
        notes: what a person should look at, a sentence each.
    """

    text: str
    recipe: Recipe
    facts: Facts
    notes: tuple[str, ...]


def propose(log: Path, out: Path, options: Options, ask: Ask) -> Proposal:
    """Look at a log and write a recipe for it; nothing is written to disk.

    Args:
        log: Parquet or CSV file, glob or folder.
        out: where the recipe will lie; paths in it are relative to there.
        options: what the command line says.
        ask: asks for the rating from which on an event is a positive.

    Raises:
        EventsError: the log cannot be read, has no column of users or of items, or is no log.
    """
    found = _look(log, out, options, ask)
    found = replace(found, nulls=_missing(found, out))
    facts = _count(found, out)
    if found.roles.clock.column and not facts.days:
        why = f"all events have one time in {found.roles.clock.column!r}: the log is read as one without times"
        found = replace(found, roles=replace(found.roles, clock=Clock("", why=why)))
        facts = _count(found, out)
    _require_a_log(found, facts)
    text = _text(found, facts, log)
    return Proposal(text, recipe_from(tomllib.loads(text), out), facts, tuple(_notes(found, facts)))


def _look(log: Path, out: Path, options: Options, ask: Ask) -> Found:
    seen = look_at(log)
    roles = find_roles(seen, options.given)
    found = Found(_relative(log, out), seen, roles, find_fields(seen, roles))
    if options.items is not None:
        found = replace(found, items=_beside(options.items, out, roles.item, "items"))
    if options.users is not None:
        found = replace(found, users=_beside(options.users, out, roles.user, "users"))
    if roles.rating is not None:
        suggested, shares = threshold(seen, roles.rating)
        question = f"{roles.rating} ({shares}): from which rating on is an event a positive?"
        chosen = options.positive_from
        found = replace(found, positive_from=ask(question, suggested) if chosen is None else chosen)
    return found


def _beside(path: Path, out: Path, key: str, option: str) -> Beside:
    seen = look_at(path)
    names = [look.name for look in seen.looks]
    unique = [look.name for look in seen.looks if look.distinct == look.rows == len(seen.sample)]
    if key not in names:
        named = [name for name in unique if name.lower() in ("id", "key", key.lower())]
        if not named:
            expected = f"expected {key!r} as in the events{did_you_mean(key, names)}"
            raise EventsError(
                str(path), f"--{option}: got the columns {', '.join(names)}, {expected}"
            )
        key = named[0]
    return Beside(_relative(path, out), key, table_fields(seen, key))


def _relative(path: Path, out: Path) -> str:
    """A path as a recipe at `out` names it: relative where both lie below the current folder."""
    whole, here = path.absolute(), Path.cwd()
    if whole.is_relative_to(here) and out.absolute().is_relative_to(here):
        return Path(os.path.relpath(whole, out.absolute().parent)).as_posix()
    return whole.as_posix()


def _draft(found: Found, out: Path) -> Recipe:
    """A recipe that reads the log, without fields."""
    data: dict[str, Any] = as_values(source_lines(replace(found, items=None, users=None)))
    columns = as_values(column_lines(replace(found, items=None, users=None)))
    columns.pop("item_text", None)
    data |= {"columns": columns, "context_fields": []}
    if kinds := as_values(kind_lines(found)):
        data["event_kinds"] = kinds
    if csv := as_values(csv_lines(found.seen.csv)):
        data["csv"] = csv
    values = {"name": "draft", "serve_as": "draft", "model": {"name": "lrea"}, "data": data}
    return recipe_from(values, out)


def _missing(found: Found, out: Path) -> dict[str, int]:
    """Columns that every event needs -> number of rows without a value, where there are any."""
    frame = read_files(_draft(found, out)).events.frame
    roles = found.roles
    needed = (roles.user, roles.item, roles.clock.column, roles.label, roles.rating)
    counts = {name: int(missing(frame[name]).sum()) for name in needed if name}
    return {name: number for name, number in counts.items() if number}


def _count(found: Found, out: Path) -> Facts:
    recipe = _draft(found, out)
    return count(clean(read_files(recipe), recipe.data, time.time()))


def _require_a_log(found: Found, facts: Facts) -> None:
    source, roles = str(found.seen.path), found.roles
    for column, number, what in (
        (roles.user, facts.users, "user"),
        (roles.item, facts.items, "item"),
    ):
        if number < 2:
            expected = f"expected events of several {what}s; another column: --{what} COLUMN"
            raise EventsError(
                source,
                f"column {column!r}: got one {what} in all {facts.events:,} events, {expected}",
            )
    if not facts.positives:
        raise EventsError(
            source, "got no positive event, expected some; see --positive-from and --label"
        )


def _text(found: Found, facts: Facts, log: Path) -> str:
    name = _name(log)
    kinds, numeric = kind_lines(found), numeric_lines(found)
    has_labels = found.roles.label is not None or found.positive_from is not None
    has_labels = has_labels or "negative" in as_values(kinds)
    drops_repeats = (
        not has_labels and not kinds and bool(facts.days) and facts.repeats < choices.REPEATS
    )
    data = [*source_lines(found), *field_lines(found, facts.has_days_only)]
    if drops_repeats and facts.repeats:
        data.append(
            Line(
                "drop_repeats", True, f"{facts.repeats:.1%} of events repeat an item of their user"
            )
        )
    parts = [
        _head(found, facts),
        section(
            "",
            [
                Line("name", name, "names the run folder"),
                Line("serve_as", name, "model name in requests"),
            ],
        ),
        section("data", data),
        section("data.fields", numeric) if numeric else "",
        section("data.columns", column_lines(found)),
        section("data.event_kinds", kinds) if kinds else "",
        section("data.csv", csv_lines(found.seen.csv)),
        section("split", choices.split(facts)),
        section("history", choices.history(facts)),
        "" if has_labels else section("negatives", choices.negatives(facts, drops_repeats)),
        section("model", choices.model(facts)),
        section("train", choices.train(facts)),
    ]
    return "\n\n".join(part for part in parts if part and part != "[data.csv]") + "\n"


def _name(log: Path) -> str:
    """A name for the recipe: that of the file, or with its folder where the file's says nothing."""
    parts = [log.absolute().parent.name, log.name.split(".")[0]]
    slugs = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts]
    own = slugs if slugs[1] in COMMON_NAMES else slugs[1:]
    return "-".join(slug for slug in own if slug)[:60].strip("-") or "log"


def _head(found: Found, facts: Facts) -> str:
    dates = f"{as_date(facts.first_s)} to {as_date(facts.last_s)} UTC ({facts.days:,.1f} days)"
    counts = f"{facts.events:,} events of {facts.users:,} users on {facts.items:,} items"
    lines = (
        "Written by `absorb init`, which guessed. Read every line; those with CHOOSE are yours to decide.",
        f"{counts}, {dates if facts.days else 'without times'}.",
        f"{facts.doubles:,} events equal another one in user, item, time and label (of one basket, or sent twice).",
    )
    return "\n".join(f"# {line}" for line in lines)


def _notes(found: Found, facts: Facts) -> list[str]:
    """What a person should look at."""
    roles, notes = found.roles, []
    if not facts.days:
        notes.append(
            f"no times ({roles.clock.why}): histories are empty, and the split is at random"
        )
    if found.positive_from is not None:
        notes.append(
            f"{roles.rating} from {found.positive_from:g} on is a positive: see positive_from"
        )
    if roles.kind is not None:
        notes.append(f"kinds of events in {roles.kind!r}: see event_kinds")
    lost = [
        f"{name} ({why})"
        for name, why in found.fields.comments.items()
        if why.startswith("left out")
    ]
    if lost:
        notes.append(f"{len(lost)} columns are left out; the recipe says why")
    for column, number in (found.nulls or {}).items():
        notes.append(f"{number:,} rows without {column} are left out: see nulls")
    if facts.positives < 5_000:
        notes.append(f"{facts.positives:,} positives are few: expect wide intervals")
    notes += [
        f"{path} has one row per {key}: use it with --{option}"
        for option, path, key in _tables(found)
    ]
    return notes


def _tables(found: Found) -> list[tuple[str, Path, str]]:
    """Option, path and key of tables beside a log's file that have one row per item, or per user."""
    folder, roles = found.seen.path.parent, found.roles
    pairs = (("items", roles.item, found.items), ("users", roles.user, found.users))
    files = sorted(path for path in folder.glob("*") if path.is_file() and is_table(path))
    return [
        (option, path, key)
        for option, key, given in pairs
        for path in files[:MOST_TABLES]
        if given is None and path != found.seen.path and _has_one_row_per(path, key)
    ]


def _has_one_row_per(path: Path, key: str) -> bool:
    try:
        lazy = scan(path).lazy
        if key not in lazy.collect_schema().names():
            return False
        ids = pl.col(key)
        counts = lazy.select(rows=pl.len(), ids=ids.n_unique(), nulls=ids.null_count()).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return False  # whatever it is, it is not suggested
    rows, different, nulls = counts.row(0)
    return bool(rows == different > 1 and not nulls)
