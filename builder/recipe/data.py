"""The `[data]` section of a recipe: which log is read, and which of its columns the model sees."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from builder.recipe.event_kinds import EventKinds, kind_problems
from builder.recipe.field_rules import CATEGORICAL, FieldRule
from builder.recipe.limits import Interval
from builder.recipe.reading import (
    CsvRule,
    OnNull,
    filter_problems,
    null_problems,
    zone_problems,
)
from models.contract.errors import did_you_mean

RESERVED_FIELDS = ("item", "user", "popularity")
INPUT_NAMES = ("user_id", "candidates", "recent")
"""Inputs of every served model: V2 has one name space for them, context fields and candidate fields."""
USER_FIELD = "user"
"""The user's id as a user field. Every log has it."""
TIME_FIELDS = ("hour", "weekday")
"""Context fields that are computed from the time."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns in your files. Source "files" only."""

    user: str = "user_id"
    """User id, in the events."""
    item: str = "item_id"
    """Item id, in the events."""
    time: str = "timestamp"
    """Time, in the events: a number (see `time_unit`), a datetime, a date or an ISO 8601 text; UTC without an offset.

    "": the log has no times. Then all histories are empty, and the split must be by user or by event.
    """
    label: str | None = None
    """1 clicked or bought, 0 shown only. Unset: every event is a positive, and negatives are drawn."""
    item_id: str | None = None
    """Item id, in the items file. Unset: the same name as in the events."""
    user_id: str | None = None
    """User id, in the users file. Unset: the same name as in the events."""
    item_text: str | None = None
    """Display text of the item, such as its title: a column of the items file, or of the events where there is none."""
    quantity: str | None = None
    """How many were bought, in the events. Events with 0 or less are returns and are dropped. Unset: all are kept."""
    weight: str | None = None
    """A quantity or a dwell time, in the events: an event, and what is drawn for it, weighs log2(1 + value) in the
    loss, and 1 without a value. Metrics count every target alike. Unset: all weigh 1."""


@dataclass(frozen=True)
class PoolFile:
    """The candidates of each request (its pool), where they are known: what was on offer, shown or in stock.

    Requests that name the same values have the same pool. Events whose pool has no row in the file are history only.
    Source "files" only.
    """

    file: str
    """Parquet or CSV file, or a glob: one row per pool and item, with the candidate fields."""
    key: tuple[str, ...]
    """Columns that name a pool, in this file and in the events: a store and a week, or a request's id."""
    item: str | None = None
    """Item id, in this file. Unset: the same name as in the events."""

    def __post_init__(self) -> None:
        if not self.key or len(set(self.key)) < len(self.key):
            raise ValueError(f"key: got {list(self.key)}, expected different columns, at least one")


@dataclass(frozen=True)
class Synthetic:
    """Size of the synthetic log. Source "synthetic" only."""

    users: Annotated[int, Interval(ge=2)] = 2000
    """Number of users."""
    items: Annotated[int, Interval(ge=4)] = 1200
    """Number of items."""
    categories: Annotated[int, Interval(ge=4)] = 60
    """Number of groups of items. An item's group is its field "category"."""
    interests: Annotated[int, Interval(ge=1)] = 12
    """Number of interests of a user, which drift and are active in turn. Mostly old events show them."""
    events_per_user: Annotated[int, Interval(ge=40)] = 500
    """Number of events per user: purchases and shown items together."""
    noise: Annotated[float, Interval(ge=0, le=0.49)] = 0.05
    """Probability that a label is flipped, which no model can predict."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the generator: the same seed gives the same log."""

    def __post_init__(self) -> None:
        if self.items < self.categories:
            raise ValueError(f"items: got {self.items}, expected at least one per category")
        if self.interests > self.categories // 2:
            raise ValueError(
                f"interests: got {self.interests}, expected at most half of the categories"
            )


@dataclass(frozen=True)
class Data:
    """Which log is read, and which of its columns the model sees."""

    source: Literal[
        "complete-journey",
        "movielens",
        "files",
        "synthetic",
        "amazon-reviews",
        "taobao",
        "amazon-reviews-2023",
        "open-bandit",
        "promotions",
    ]
    """Kind of log, which decides which of the other keys are used."""
    item_fields: tuple[str, ...] = ()
    """Columns of the item table. The item's id and its popularity are always added.

    Popularity is log2 of the item's training events; with pools, of its events before the training part, if there are
    any: an item of a pool that training never sees bought would otherwise be known by its popularity.
    """
    user_fields: tuple[str, ...] = ()
    """Columns of the user table. "user" is the user's own id, which needs no table."""
    context_fields: tuple[str, ...] = ("hour", "weekday")
    """"hour" and "weekday" (0 is Monday) are computed from the time, in UTC; other names are columns of the events."""
    candidate_fields: tuple[str, ...] = ()
    """Columns of the pools: what a request knows of a candidate beside its id, such as its placement or its price."""
    fields: dict[str, FieldRule] = field(default_factory=dict)
    """Field, of whatever kind -> what its values are, where they are more than words: `[data.fields.price]`."""
    category: str | None = None
    """Item field that groups the items: same-category negatives share its value. Unset: all items are one group."""
    min_item_count: Annotated[int, Interval(ge=1)] = 3
    """Items with fewer training events share one id embedding. Their other fields are kept."""
    path: str | None = None
    """Folder of the downloaded files, for the sources that need a download."""
    events: str | None = None
    """Source "files": Parquet or CSV file, a glob, or a folder of such files, relative to the recipe's folder or to the
    current folder. Parts of a path such as day=2025-01-31 are columns, too."""
    items: str | None = None
    """Source "files": file with one row per item. Unset: item fields are columns of an item's first event."""
    users: str | None = None
    """Source "files": file with one row per user."""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Source "files": unit of times that are numbers, since 1970."""
    time_format: str | None = None
    """Source "files": format of times that are texts, such as "%d/%m/%Y %H:%M" (chrono's strftime). Unset: ISO 8601."""
    time_zone: str | None = None
    """Source "files": zone of datetimes, dates and texts without an offset, such as "Europe/Berlin". Unset: UTC. Of an
    hour that comes twice, the first is taken."""
    filter: str | None = None
    """Source "files": SQL condition on columns of the events file, such as "quantity > 0 AND country IN ('DK', 'SE')".
    Other events are left out before anything else is looked at; so are those for which it is null."""
    nulls: dict[str, OnNull] = field(default_factory=dict)
    """Column -> what to do with rows without a value in it. "drop": leave them out; "refuse": refuse the log;
    "unknown": keep them, with the value "unknown", which is what fields do unless said otherwise."""
    csv: CsvRule | None = None
    """How CSV files are written. Unset: as RFC 4180 says, in UTF-8."""
    positive_from: float | None = None
    """For ratings: the label is 1 where the rating is at least this."""
    negative_to: float | None = None
    """For ratings: the label is 0 where the rating is at most this, and ratings between the limits are dropped. Unset:
    every rating below `positive_from` is a 0."""
    event_kinds: EventKinds | None = None
    """Source "files": what each kind of event means, where the log has several. Unset: all events mean the same."""
    cancel_returns: bool = False
    """Each event with a quantity of 0 or less (`columns.quantity`) cancels the user's latest earlier event with the
    same item: neither is kept, not even in histories of the time between them."""
    drop_repeats: bool = False
    """Drop a user's later events with an item that it took before, such as reloads of a page. Then no item is taken
    twice, and negatives can exclude the past (`negatives.exclude`)."""
    columns: Columns = Columns()
    pools: PoolFile | None = None
    """Unset: the log does not say what else could have been bought or clicked, and negatives are drawn."""
    synthetic: Synthetic = Synthetic()

    @property
    def profile_fields(self) -> tuple[str, ...]:
        """User fields that are read from the user table."""
        return tuple(name for name in self.user_fields if name != USER_FIELD)

    @property
    def has_pools(self) -> bool:
        """Whether the log knows the candidates of each request."""
        return self.pools is not None or self.source == "promotions"

    def __post_init__(self) -> None:
        low, high = self.negative_to, self.positive_from
        if low is not None and (high is None or low >= high):
            limit = "unset" if high is None else f"{high:g}"
            raise ValueError(
                f"negative_to: got {low:g}, expected less than positive_from ({limit})"
            )


SOURCE_KEYS = {
    "path": ("movielens", "amazon-reviews", "taobao", "amazon-reviews-2023", "open-bandit"),
    "events": ("files",),
    "items": ("files",),
    "users": ("files",),
    "time_unit": ("files",),
    "time_format": ("files",),
    "time_zone": ("files",),
    "filter": ("files",),
    "event_kinds": ("files",),
    "csv": ("files",),
    "columns": ("files",),
    "positive_from": ("files", "movielens", "amazon-reviews-2023"),
    "negative_to": ("files", "movielens", "amazon-reviews-2023"),
    "synthetic": ("synthetic",),
    "pools": ("files",),
    "candidate_fields": ("files", "promotions"),
}
"""Keys that only some sources read."""


def data_problems(data: Data, given: dict[str, Any]) -> list[str]:
    """Keys that contradict each other, one sentence each.

    Args:
        data: the section.
        given: the section as TOML gave it; `data` does not show which keys are defaults.
    """
    problems = _source_problems(data, given) + _field_problems(data)
    problems += filter_problems(data.filter) + zone_problems(data.time_zone)
    has_labels = data.columns.label is not None
    problems += kind_problems(data.event_kinds, has_labels, data.has_pools, data.drop_repeats)
    if data.cancel_returns and data.columns.quantity is None:
        problems.append("data.columns.quantity: missing, expected it for data.cancel_returns")
    return problems + null_problems(data.nulls, _needed(data.columns))


def _needed(columns: Columns) -> dict[str, str]:
    """Columns that every event needs -> their key."""
    keys = ("user", "item", "time", "label")
    return {name: f"data.columns.{key}" for key in keys if (name := getattr(columns, key))}


def _source_problems(data: Data, given: dict[str, Any]) -> list[str]:
    source = data.source
    problems = [
        f"data.{key}: got a key that source {source!r} does not read, expected it only with {', '.join(sources)}"
        for key, sources in SOURCE_KEYS.items()
        if key in given and source not in sources
    ]
    folder = dict.fromkeys(SOURCE_KEYS["path"], "path")
    needed = {"files": "events", **folder}.get(source)
    if needed and needed not in given:
        problems.append(f"data.{needed}: missing, expected for source {source!r}")
    if source == "files" and data.positive_from is not None and not data.columns.label:
        problems.append(
            "data.columns.label: missing, expected the column of ratings for data.positive_from"
        )
    if data.drop_repeats and (data.columns.label or data.positive_from is not None):
        problems.append(
            "data.drop_repeats: got true for a log with labels, expected it only where every event is a positive"
        )
    return problems + _pool_problems(data)


def _pool_problems(data: Data) -> list[str]:
    problems = []
    if data.source == "files" and data.candidate_fields and data.pools is None:
        problems.append("data.pools: missing, expected the file with data.candidate_fields")
    if data.pools is not None and data.columns.label:
        problems.append(
            f"data.columns.label: got {data.columns.label!r} beside data.pools, expected one of them: "
            "every event of a log with pools is a positive"
        )
    return problems


def _rule_problems(data: Data) -> list[str]:
    """Rules of fields that the recipe does not have, or whose values are no numbers."""
    kinds = (data.item_fields, data.profile_fields, data.context_fields, data.candidate_fields)
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    problems = [
        f"data.fields.{name}: got a field that is in no list, expected one of: {', '.join(names) or 'none'}"
        f"{did_you_mean(name, names)}"
        for name in data.fields
        if name not in names
    ]
    for name, rule in data.fields.items():
        if rule.kind in ("categorical", "boolean"):
            problems += [
                f'data.fields.{name}.{key}: got a key that kind "{rule.kind}" does not read'
                for key in ("buckets", "transform")
                if getattr(rule, key) != getattr(CATEGORICAL, key)
            ]
        if rule.kind == "date" and name in (*data.item_fields, *data.user_fields):
            problems.append(
                f'data.fields.{name}.kind: got "date" for a field of items or users, expected one of '
                "data.context_fields or data.candidate_fields: an age depends on when a request comes"
            )
    return problems


def _field_problems(data: Data) -> list[str]:
    problems = _rule_problems(data)
    for kind in ("item_fields", "user_fields", "context_fields", "candidate_fields"):
        names = getattr(data, kind)
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"data.{kind}: got {name!r} twice, expected each name once")
        for name in names:
            if name in RESERVED_FIELDS and (kind, name) != ("user_fields", USER_FIELD):
                problems.append(f"data.{kind}: got {name!r}, expected a name that is not reserved")
    for name in data.candidate_fields:
        if name in (*data.context_fields, *INPUT_NAMES):
            problems.append(
                f"data.candidate_fields: got {name!r}, expected a name that no context field and no other input of "
                f"a request has ({', '.join(INPUT_NAMES)})"
            )
    if data.category is not None and data.category not in data.item_fields:
        known = ", ".join(data.item_fields) or "none"
        hint = did_you_mean(data.category, data.item_fields)
        problems.append(
            f"data.category: got {data.category!r}, expected one of data.item_fields: {known}{hint}"
        )
    return problems
