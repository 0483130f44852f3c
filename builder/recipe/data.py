"""The data section of a recipe: where the log comes from and what of it the model sees."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval

from models.contract.errors import did_you_mean

RESERVED_FIELDS = ("item", "user", "popularity")
USER_FIELD = "user"
"""User field that every log has: the id."""
TIME_FIELDS = ("hour", "weekday")
"""Context fields that are derived from the time, not read."""


@dataclass(frozen=True)
class Columns:
    """Which column of your files means what. Source "files" only."""

    user: str = "user_id"
    """Who, in the events."""
    item: str = "item_id"
    """What, in the events."""
    time: str = "timestamp"
    """When, in the events: a number (see `time_unit`), a datetime, a date or an ISO text; UTC unless it says.

    "": nobody knows; no event is then before another, histories are empty, and only users or events can split.
    """
    label: str | None = None
    """1 clicked or bought, 0 shown only. Unset: every event is a positive, and negatives are drawn."""
    item_id: str | None = None
    """The item's id in the items file. Unset: named as in the events."""
    user_id: str | None = None
    """The user's id in the users file. Unset: named as in the events."""
    item_text: str | None = None
    """Display text of the item, such as its title: a column of the items file, or of the events where there is none."""


@dataclass(frozen=True)
class Synthetic:
    """Size of the synthetic log. Source "synthetic" only."""

    users: Annotated[int, Interval(ge=2)] = 2000
    """Users of the log."""
    items: Annotated[int, Interval(ge=4)] = 1200
    """Items of the catalogue."""
    categories: Annotated[int, Interval(ge=4)] = 60
    """Groups of items; an item's group is its field "category"."""
    interests: Annotated[int, Interval(ge=1)] = 12
    """Categories a user loves. Their evidence lies in the older part of the history."""
    events_per_user: Annotated[int, Interval(ge=40)] = 500
    """Events of each user, purchases and shown items together."""
    noise: Annotated[float, Interval(ge=0, le=0.49)] = 0.05
    """Chance that a label is flipped: what no model can know."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """The same seed gives the same log."""

    def __post_init__(self) -> None:
        if self.items < self.categories:
            raise ValueError(f"items: got {self.items}, expected at least one per category")
        if self.interests > self.categories // 2:
            raise ValueError(
                f"interests: got {self.interests}, expected at most half of the categories"
            )


@dataclass(frozen=True)
class Data:
    """Where the log comes from, and what of it the model sees."""

    source: Literal[
        "complete-journey",
        "movielens",
        "files",
        "synthetic",
        "amazon-reviews",
        "taobao",
        "amazon-reviews-2023",
        "open-bandit",
    ]
    """Kind of log, which decides which of the other keys are used."""
    item_fields: tuple[str, ...] = ()
    """Columns of the item table. The item's id and its popularity (log2 of training events) are always added."""
    user_fields: tuple[str, ...] = ()
    """Columns of the user table; "user" is the user's own id, which needs no table."""
    context_fields: tuple[str, ...] = ("hour", "weekday")
    """"hour" and "weekday" (0 is Monday) come from the time, in UTC; other names are columns of the events."""
    category: str | None = None
    """The item field whose groups same-category negatives are drawn from. Unset: all items are one group."""
    min_item_count: Annotated[int, Interval(ge=1)] = 3
    """Items with fewer training events share one embedding; their other fields stay."""
    path: str | None = None
    """Folder of the files, for sources that are downloaded: see `SOURCE_KEYS`."""
    events: str | None = None
    """Source "files": Parquet or CSV, or a glob; relative to the recipe's folder or the current one."""
    items: str | None = None
    """Source "files": one row per item. Unset: item fields are columns of the events (an item's first row counts)."""
    users: str | None = None
    """Source "files": one row per user."""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Source "files": of times that are numbers, since 1970."""
    positive_from: float | None = None
    """Makes the label from ratings: 1 where the label column is at least this."""
    negative_to: float | None = None
    """The label is 0 where the rating is at most this, and ratings between are dropped. Unset: 0 below the other."""
    columns: Columns = Columns()
    synthetic: Synthetic = Synthetic()

    @property
    def profile_fields(self) -> tuple[str, ...]:
        """User fields that are read from the user table."""
        return tuple(name for name in self.user_fields if name != USER_FIELD)

    def __post_init__(self) -> None:
        low, high = self.negative_to, self.positive_from
        if low is not None and (high is None or low >= high):
            raise ValueError(f"negative_to: got {low:g}, expected less than positive_from: {high}")


SOURCE_KEYS = {
    "path": ("movielens", "amazon-reviews", "taobao", "amazon-reviews-2023", "open-bandit"),
    "events": ("files",),
    "items": ("files",),
    "users": ("files",),
    "time_unit": ("files",),
    "columns": ("files",),
    "positive_from": ("files", "movielens", "amazon-reviews-2023"),
    "negative_to": ("files", "movielens", "amazon-reviews-2023"),
    "synthetic": ("synthetic",),
}
"""Keys of `Data` that only some sources read."""


def data_problems(data: Data, given: dict[str, Any]) -> list[str]:
    """What is wrong between the keys of a section.

    Args:
        data: the section.
        given: as TOML gave it: defaults do not show which keys were given.
    """
    return _source_problems(data, given) + _field_problems(data)


def _source_problems(data: Data, given: dict[str, Any]) -> list[str]:
    source = data.source
    problems = [
        f"data.{key}: source {source!r} does not read it, only {', '.join(sources)}"
        for key, sources in SOURCE_KEYS.items()
        if key in given and source not in sources
    ]
    folder = dict.fromkeys(SOURCE_KEYS["path"], "path")
    needed = {"files": "events", **folder}.get(source)
    if needed and needed not in given:
        problems.append(f"data.{needed}: missing, source {source!r} needs it")
    if source == "files" and data.positive_from is not None and not data.columns.label:
        problems.append("data.columns.label: missing, data.positive_from needs the column it cuts")
    return problems


def _field_problems(data: Data) -> list[str]:
    problems = []
    for kind in ("item_fields", "user_fields", "context_fields"):
        names = getattr(data, kind)
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"data.{kind}: {name!r} is listed twice")
        for name in names:
            if name in RESERVED_FIELDS and (kind, name) != ("user_fields", USER_FIELD):
                problems.append(f"data.{kind}: {name!r} is a name of ours, expected another")
    if data.category is not None and data.category not in data.item_fields:
        known = ", ".join(data.item_fields) or "none"
        hint = did_you_mean(data.category, data.item_fields)
        problems.append(
            f"data.category: got {data.category!r}, expected one of data.item_fields: {known}{hint}"
        )
    return problems
