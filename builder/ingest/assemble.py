"""Raw log -> `Events`: dense ids known from what is to train only, sorted by user and time, checked."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.ingest.clean import CleanLog, clean, context_column
from builder.ingest.events import Events
from builder.ingest.sources import SOURCES
from builder.ingest.sources.raw import RawLog
from builder.ingest.split import PARTS, Split
from builder.recipe.data import TIME_FIELDS
from builder.recipe.recipe import Recipe, SplitRule
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, FeatureSchema, Field
from models.contract.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

DAY_S = 86_400


@dataclass(frozen=True)
class _Items:
    """Per catalogue row: dense ids of its fields, and events in training and in all; and what the ids stand for."""

    fields: NDArray[np.int32]
    values: dict[str, list[str]]
    schema: tuple[Field, ...]
    train_popularity: NDArray[np.int64]
    popularity: NDArray[np.int64]


def ingest(recipe: Recipe) -> Events:
    """Read a recipe's log.

    Raises:
        EventsError: the log is not there or cannot be read as one.
    """
    raw = SOURCES[recipe.data.source].read(recipe)
    logger.info("%s: read %d events", raw.events.source, len(raw.events.frame))
    return ingest_log(raw, recipe, time.time())


def input_fingerprint(recipe: Recipe) -> str:
    """Hash of the name, size and time of every file that `ingest` reads, 16 hex digits.

    The recipe's own fingerprint cannot see that a file was replaced; a nightly build must.

    Raises:
        EventsError: a file is not there.
    """
    paths = SOURCES[recipe.data.source].find(recipe)
    stats = [(str(path), path.stat()) for path in paths]
    lines = [f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in stats]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def ingest_log(raw: RawLog, recipe: Recipe, now_s: float) -> Events:
    """`Events` of a log as a source found it.

    Args:
        raw: the tables.
        recipe: says what of them is used.
        now_s: epoch second; later times (plus a day for clocks) are refused.

    Raises:
        EventsError: the tables cannot be read as a log, or leave nothing to train, validate or test on.
    """
    if not raw.columns.time:
        _require_no_need_of_times(raw.events.source, recipe)
    log = clean(raw, recipe.data, now_s)
    if log.events["item"].n_unique() < 2:
        raise EventsError(raw.events.source, "fewer than 2 distinct items: nothing to rank")
    ts_s = log.events["ts_s"].to_numpy()
    targets_s = _last_times(log.events) if recipe.split.last_only else ts_s
    split = cut(ts_s, targets_s, recipe.split)
    events = _assemble(_by_part(log, split), split, recipe)
    _require_targets(raw.events.source, events, recipe.history.min_events)
    logger.info(
        "%d users, %d items, %d events",
        events.num_users,
        events.schema.num_items - FIRST_KNOWN,
        len(events.item),
    )
    return events


def _require_no_need_of_times(source: str, recipe: Recipe) -> None:
    """Raise EventsError where the recipe asks for what a log without times does not know; all of it is named."""
    split, least = recipe.split, recipe.history.min_events
    problems = [
        f"data.context_fields: {name!r} comes from the time"
        for name in recipe.data.context_fields
        if name in TIME_FIELDS
    ]
    if not split.test_events and not split.test_users:
        problems.append(
            "split: nothing can be cut by time, expected split.validate_events and split.test_events "
            "(or validate_users and test_users)"
        )
    if least:
        problems.append(f"history.min_events: got {least}, expected 0: no event is before another")
    if problems:
        raise EventsError(source, f"the log has no times; {'; '.join(problems)}")


def cut(ts_s: NDArray[np.int64], targets_s: NDArray[np.int64], rule: SplitRule) -> Split:
    """Epoch seconds of the cuts; split by user or by event, everything lies in one period.

    Args:
        ts_s: of all events, in any order.
        targets_s: of the events that are targets, in any order: shares are shares of these.
        rule: days since the first event, or shares, of events or of users.
    """
    end_s = int(ts_s.max()) + 1
    if rule.test_users or rule.test_events:
        return Split(
            int(ts_s.min()), end_s, end_s, end_s,
            validate_users=rule.validate_users or 0.0, test_users=rule.test_users or 0.0,
            validate_events=rule.validate_events or 0.0, test_events=rule.test_events or 0.0,
            last_only=rule.last_only,
        )  # fmt: skip
    if rule.train_from_day is not None:
        first_s = int(ts_s.min())
        days = (rule.train_from_day, rule.validate_from_day or 0.0, rule.test_from_day or 0.0)
        cuts = [first_s + int(day * DAY_S) for day in days]
    else:
        in_order = np.sort(targets_s)
        shares = (rule.train_from, rule.validate_from, rule.test_from)
        places = [min(int(share * len(in_order)), len(in_order) - 1) for share in shares]
        cuts = [int(in_order[place]) for place in places]
    return Split(cuts[0], cuts[1], cuts[2], end_s, last_only=rule.last_only)


def _last_times(events: pl.DataFrame) -> NDArray[np.int64]:
    """Each user's latest time; `events` are sorted."""
    ends = _offsets(events["user"])[1:]
    return np.asarray(events["ts_s"].to_numpy()[ends - 1])


def _by_part(log: CleanLog, split: Split) -> CleanLog:
    """The log with equal times in the order of their parts: a slate, of one part, is then a range of events."""
    if not split.test_events:
        return log
    part = pl.Series("part", _parts(log, split))
    events = log.events.with_columns(part).sort("user", "ts_s", "part", maintain_order=True)
    return replace(log, events=events.drop("part"))


def _parts(log: CleanLog, split: Split) -> NDArray[np.int8]:
    """Part of each event, [E]."""
    users, items = (
        log.events["user"].unique(maintain_order=True).to_list(),
        log.items["item"].to_list(),
    )
    user, item = (
        _users(_offsets(log.events["user"])),
        _dense(log.events["item"], items) - FIRST_KNOWN,
    )
    return split.parts(users, user, items, item, log.events["ts_s"].to_numpy())


def _assemble(log: CleanLog, split: Split, recipe: Recipe) -> Events:
    data, events = recipe.data, log.events
    item = _dense(events["item"], log.items["item"].to_list())
    ts_s, label = events["ts_s"].to_numpy(), events["label"].to_numpy()
    users = events.select("user").unique(maintain_order=True)
    offsets = _offsets(events["user"])
    in_training = split.is_known(_parts(log, split), ts_s)
    trained_users = users["user"].is_in(
        events["user"].filter(pl.Series(in_training)).unique().implode()
    )
    profiles = users.join(log.users, on="user", how="left", maintain_order="left")
    user_ids, user_values = _encode(profiles, {n: n for n in data.user_fields}, trained_users)
    columns = {name: context_column(name) for name in data.context_fields}
    context_ids, context_values = _encode(events, columns, pl.Series(in_training))
    items = _item_arrays(log.items, item, in_training, recipe)
    return Events(
        user_ids=users["user"].to_list(),
        offsets=offsets,
        item=item,
        ts_s=ts_s,
        label=label,
        context=context_ids,
        user_fields=user_ids,
        item_fields=items.fields,
        category=_categories(items, data.category),
        train_popularity=items.train_popularity,
        popularity=items.popularity,
        has_impressions=log.has_impressions,
        split=split,
        schema=FeatureSchema(
            item_fields=items.schema,
            user_fields=_schema_fields(user_values),
            context_fields=_schema_fields(context_values),
            num_items=len(log.items) + FIRST_KNOWN,
            history_length=recipe.history.length,
            recent_length=recipe.history.recent,
        ),
        vocabulary=Vocabulary(log.items["item"].to_list(), user_values, context_values),
        oracle=events["oracle"].to_numpy() if log.has_oracle else None,
        item_values=items.values,
    )


def _encode(
    frame: pl.DataFrame, columns: dict[str, str], trained: pl.Series
) -> tuple[NDArray[np.int32], dict[str, list[str]]]:
    """Dense ids of columns, [rows, columns], and the values they stand for.

    Args:
        frame: rows.
        columns: field name -> column.
        trained: rows whose values the model will have seen; other values are UNKNOWN.
    """
    values = {name: _known(frame[column], trained) for name, column in columns.items()}
    ids = np.empty((len(frame), len(columns)), np.int32)
    for place, (name, column) in enumerate(columns.items()):
        ids[:, place] = _dense(frame[column], values[name])
    return ids, values


def _known(values: pl.Series, trained: pl.Series) -> list[str]:
    known: list[str] = values.filter(trained).drop_nulls().unique().sort().to_list()
    return known


def _dense(values: pl.Series, known: Sequence[str]) -> NDArray[np.int32]:
    ids = np.arange(FIRST_KNOWN, FIRST_KNOWN + len(known), dtype=np.int32)
    dense = values.replace_strict(
        pl.Series(known, dtype=pl.String), ids, default=UNKNOWN, return_dtype=pl.Int32
    )
    return dense.to_numpy()


def _schema_fields(values: dict[str, list[str]]) -> tuple[Field, ...]:
    return tuple(Field(name, len(known) + FIRST_KNOWN) for name, known in values.items())


def _offsets(users: pl.Series) -> NDArray[np.int64]:
    """Where each user's events start; `users` is sorted."""
    counts = users.rle().struct.field("len").to_numpy()
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _users(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each event's user, [E]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _item_arrays(
    items: pl.DataFrame,
    item: NDArray[np.int32],
    in_training: NDArray[np.bool_],
    recipe: Recipe,
) -> _Items:
    num_items = len(items) + FIRST_KNOWN
    # Shown or clicked alike: a count of clicks would tell a training target of an item seen once what its label is.
    popularity = np.bincount(item, minlength=num_items)
    train_popularity = np.bincount(item[in_training], minlength=num_items)
    is_trained = train_popularity[FIRST_KNOWN:] > 0
    names = recipe.data.item_fields
    ids, values = _encode(items, {name: name for name in names}, pl.Series(is_trained))
    own = _own_ids(train_popularity[FIRST_KNOWN:], recipe.data.min_item_count)
    # log2 buckets: 0, 1, 2-3, 4-7, … events; a count says how much an item's own embedding can know.
    bucket = np.ceil(np.log2(train_popularity[FIRST_KNOWN:] + 1)).astype(np.int32) + FIRST_KNOWN
    known_rows = np.concatenate([own[:, None], ids, bucket[:, None]], axis=1)
    reserved = np.repeat(np.array([[PADDING], [UNKNOWN]], np.int32), known_rows.shape[1], axis=1)
    schema = (
        Field("item", int(own.max()) + 1),
        *_schema_fields(values),
        Field("popularity", int(bucket.max()) + 1),
    )
    fields = np.concatenate([reserved, known_rows]).astype(np.int32)
    has_own = pl.Series(own != UNKNOWN)
    values = {"item": items["item"].filter(has_own).to_list(), **values}
    values["popularity"] = [_counts(place) for place in range(int(bucket.max()) + 1 - FIRST_KNOWN)]
    return _Items(fields, values, schema, train_popularity, popularity)


def _counts(bucket: int) -> str:
    """Numbers of events that fall into a bucket of popularity."""
    low, high = (1 << bucket) // 2, (1 << bucket) - 1
    return f"{low}-{high}" if low < high else f"{high}"


def _own_ids(train_popularity: NDArray[np.int64], min_count: int) -> NDArray[np.int32]:
    """An id of its own for every item seen often enough; the others share UNKNOWN."""
    frequent = train_popularity >= min_count
    return np.where(frequent, np.cumsum(frequent) - 1 + FIRST_KNOWN, UNKNOWN).astype(np.int32)


def _categories(items: _Items, field: str | None) -> NDArray[np.int32]:
    names = [item_field.name for item_field in items.schema]
    if field is None:
        return np.zeros(len(items.fields), np.int32)
    return np.ascontiguousarray(items.fields[:, names.index(field)])


def _require_targets(source: str, events: Events, min_events: int) -> None:
    """Raise EventsError unless each part has positives with enough history."""
    split, part = events.split, events.parts()
    enough = (events.label == 1) & (_num_before(events) >= min_events)
    if split.last_only:
        enough &= events.ts_s == events.ts_s[events.offsets[1:] - 1][_users(events.offsets)]
    where = "of its users" if split.test_users else "in its period"
    where = "in its share" if split.test_events else where
    kind = "a last positive" if split.last_only else "a positive"
    for place, name in enumerate(PARTS):
        inside = part == place
        logger.info("%s: %d positive targets", name, (inside & enough).sum())
        if not (inside & enough).any():
            raise EventsError(
                source,
                f"nothing to {name} on: {inside.sum()} events {where}, none of them {kind} "
                f"with history.min_events = {min_events} events before it; see split",
            )


def _num_before(events: Events) -> NDArray[np.int64]:
    """Events of the same user that are strictly earlier, for each event."""
    user = _users(events.offsets)
    is_first = np.ones(len(user), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (events.ts_s[1:] != events.ts_s[:-1])
    group_start = np.maximum.accumulate(np.where(is_first, np.arange(len(user)), 0))
    return np.asarray(group_start - events.offsets[user], np.int64)
