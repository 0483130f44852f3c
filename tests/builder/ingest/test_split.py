"""Splits by time, by user and by event: which targets are in which part, and what training may use."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.batches import Part, find_slates
from builder.dataset.parts import batch_source, part_slates
from builder.errors import EventsError
from builder.ingest.events import Events
from builder.ingest.split import PARTS, Split, cut
from builder.recipe.recipe import Recipe, SplitRule
from models.contract.schema import FIRST_KNOWN
from tests.builder.logs import START_S, ingest_at, log_frame, many_users, write_log

BY_EVENT: dict[str, Any] = {"validate_events": 0.1, "test_events": 0.2}
NAMES: tuple[Part, ...] = ("train", "validate", "test")
MASK = 2**64 - 1


def baskets(num_users: int = 60) -> pl.DataFrame:
    """Thirty items of each user in ten baskets, not in the order of their parts."""
    rows = [
        (
            f"u{user}",
            f"i{(user * 7 + place * 11) % 97}",
            START_S + place // 3 * 60,
            f"d{user}.{place}",
        )
        for user in range(num_users)
        for place in range(30)
    ]
    names = ["user_id", "item_id", "timestamp", "device"]
    return pl.DataFrame(rows, schema=names, orient="row")


def ingested(folder: Path, frame: pl.DataFrame, split: Any = BY_EVENT, **data: Any) -> Events:
    return ingest_at(write_log(folder, frame, split=split, data={"min_item_count": 1, **data}))


def parts_of(events: Events) -> dict[tuple[str, str], int]:
    """User and item -> place of the part."""
    users = np.repeat(events.user_ids, np.diff(events.offsets)).tolist()
    items = np.array(events.vocabulary.items)[events.item - FIRST_KNOWN].tolist()
    found = list(zip(users, items, events.parts().tolist(), strict=True))
    parts = {(user, item): part for user, item, part in found}
    assert all(parts[user, item] == part for user, item, part in found)
    return parts


def expected_part(user: str, item: str) -> int:
    """One pair, computed with Python's integers: other constants would change existing splits."""
    word = 0x9E3779B97F4A7C15
    for raw, kind in ((user, b"user"), (item, b"item")):
        digest = hashlib.blake2b(
            raw.encode(), digest_size=8, key=b"absorb events 0", person=kind
        ).digest()
        word += int.from_bytes(digest, "big")
    word &= MASK
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    share = (word ^ (word >> 31)) / 2**64
    return 2 if share < 0.2 else 1 if share < 0.2 + 0.1 else 0


def test_part_is_that_of_a_hash_of_user_and_item(tmp_path: Path) -> None:
    parts = parts_of(ingested(tmp_path, baskets()))

    assert len(parts) == 1_800
    assert parts == {pair: expected_part(*pair) for pair in parts}


def test_parts_have_their_shares_for_users_and_for_items(tmp_path: Path) -> None:
    events = ingested(tmp_path, baskets(200))
    parts, total = events.parts(), len(events.item)

    assert (np.abs(np.bincount(parts) / total - [0.7, 0.1, 0.2]) < 0.02).all()
    is_test = (parts == 2).astype(float)
    by_user = np.add.reduceat(is_test, events.offsets[:-1]) / 30
    by_item = np.bincount(events.item, is_test)[2:] / np.bincount(events.item)[2:]
    # As many draws would scatter: no user and no item has a part of its own.
    assert abs(by_user.std() - np.sqrt(0.16 / 30)) < 0.02
    assert abs(by_item.std() - np.sqrt(0.16 / 62)) < 0.02


def test_user_and_item_of_the_same_id_are_told_apart() -> None:
    split, ids = Split(0, 9, 9, 9, **BY_EVENT), [str(number) for number in range(400)]
    first, second = np.arange(400), np.arange(400)[::-1]
    times = np.zeros(400, np.int64)

    straight = split.parts(ids, first, ids, second, times)
    crossed = split.parts(ids, second, ids, first, times)

    assert (straight != crossed).mean() > 0.2


def test_event_keeps_its_part_in_any_log(tmp_path: Path) -> None:
    frame = baskets()
    parts = parts_of(ingested(tmp_path, frame))

    other = pl.concat([frame[300:], baskets(90)[-500:]]).sample(fraction=1, shuffle=True, seed=1)
    others = parts_of(ingested(tmp_path, other))

    shared = parts.keys() & others.keys()
    assert len(shared) > 1_000
    assert {pair: parts[pair] for pair in shared} == {pair: others[pair] for pair in shared}


def test_another_share_to_validate_leaves_the_events_to_test_on(tmp_path: Path) -> None:
    parts = parts_of(ingested(tmp_path, baskets()))
    others = parts_of(ingested(tmp_path, baskets(), BY_EVENT | {"validate_events": 0.3}))

    assert {pair for pair in parts if parts[pair] == 2} == {
        pair for pair in others if others[pair] == 2
    }
    assert sum(part == 1 for part in others.values()) > sum(part == 1 for part in parts.values())


def test_slates_are_of_one_part_and_hold_every_event_once(tmp_path: Path) -> None:
    events = ingested(tmp_path, baskets())
    parts = events.parts()
    seen: list[int] = []

    for place, name in enumerate(NAMES):
        slates = find_slates(events, name, min_events=0, max_events=2)
        for user, begin, end, first in zip(
            slates.user, slates.begin, slates.end, slates.first, strict=True
        ):
            assert 0 < end - begin <= 2
            assert set(parts[begin:end]) == {place}
            assert len(set(events.ts_s[begin:end])) == 1
            earlier = (
                events.ts_s[events.offsets[user] : events.offsets[user + 1]] < events.ts_s[begin]
            )
            assert first - events.offsets[user] == earlier.sum()
            seen += range(begin, end)

    assert sorted(seen) == list(range(len(events.item)))
    whole = find_slates(events, "train", min_events=0, max_events=9)
    assert (whole.end - whole.begin).max() == 3


def test_training_knows_only_events_to_train_on(tmp_path: Path) -> None:
    """Counts, ids and values are those of a log of these events alone."""
    frame = baskets()
    ages = {"user_id": [f"u{i}" for i in range(60)], "age": [f"{i}" for i in range(60)]}
    pl.DataFrame(ages).write_csv(tmp_path / "users.csv")
    fields: dict[str, Any] = {
        "context_fields": ["device"],
        "users": "users.csv",
        "user_fields": ["age"],
    }

    events = ingested(tmp_path, frame, **fields)

    parts = parts_of(events)
    is_train = [parts[user, item] == 0 for user, item in frame["user_id", "item_id"].iter_rows()]
    alone = frame.filter(is_train)
    counts = dict(alone["item_id"].value_counts().iter_rows())
    expected = [counts.get(item, 0) for item in events.vocabulary.items]
    assert events.train_popularity[FIRST_KNOWN:].tolist() == expected
    assert events.popularity.sum() == len(frame)
    assert set(events.vocabulary.context["device"]) == set(alone["device"])
    assert set(events.vocabulary.user["age"]) == {user[1:] for user in alone["user_id"]}


def recipe_of(folder: Path) -> Recipe:
    rule = {"per_positive": 20, "same_category": 0.0, "exclude": "ever"}
    return write_log(folder, baskets(20), split=BY_EVENT, negatives=rule)


def test_negatives_of_the_training_do_not_spare_what_is_tested(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    events = ingest_at(recipe)
    drawn: dict[str, set[tuple[int, int]]] = {}
    for name in NAMES:
        source, slates = batch_source(events, recipe, name), part_slates(events, recipe, name)
        _, targets = source.batch(slates, np.arange(len(slates)), np.random.default_rng(0))
        pairs = np.stack(
            [np.broadcast_to(targets.user[:, None], targets.items.shape), targets.items]
        )
        is_drawn = targets.mask & (targets.label == 0)
        drawn[name] = set(map(tuple, pairs[:, is_drawn].T.tolist()))

    user = np.repeat(np.arange(events.num_users), np.diff(events.offsets))
    pairs = np.stack([user, events.item])
    parts = events.parts()
    pairs_of = {
        name: set(map(tuple, pairs[:, parts == place].T.tolist()))
        for place, name in enumerate(PARTS)
    }
    assert not drawn["train"] & pairs_of["train"]
    assert drawn["train"] & pairs_of["test"]
    assert not drawn["test"] & set(map(tuple, pairs.T.tolist()))


def test_split_by_event_puts_all_times_into_one_period() -> None:
    split = cut(np.array([30, 10]), np.array([30, 10]), SplitRule(**BY_EVENT))

    assert split == Split(10, 31, 31, 31, **BY_EVENT)


def test_events_to_test_on_may_be_too_few(tmp_path: Path) -> None:
    with pytest.raises(
        EventsError, match="got no target to test on among the 0 events of its event split"
    ):
        ingested(tmp_path, log_frame(), {"validate_events": 0.6, "test_events": 1e-9})


def test_saved_split_by_event_loads_as_it_was(tmp_path: Path) -> None:
    events = ingested(tmp_path, baskets())

    events.save(tmp_path / "events")

    loaded = Events.load(tmp_path / "events")
    assert loaded.split == events.split
    assert loaded.parts().tolist() == events.parts().tolist()


def test_split_by_days_counts_from_the_first_event() -> None:
    rule = SplitRule(train_from_day=0.5, validate_from_day=1.0, test_from_day=2.0)

    times = np.array([300_000, 100_000])

    assert cut(times, times[:1], rule) == Split(143_200, 186_400, 272_800, 300_001)


def test_split_by_shares_counts_events() -> None:
    times = np.arange(100, 0, -1)

    split = cut(times, times, SplitRule(train_from=0.1, validate_from=0.5, test_from=0.9))

    assert split == Split(11, 51, 91, 101)


def test_shares_are_shares_of_the_events_that_are_targets() -> None:
    rule = SplitRule(validate_from=0.5, test_from=0.75, last_only=True)

    split = cut(np.arange(1, 101), np.array([80, 100, 90, 70]), rule)

    assert split == Split(70, 90, 100, 101, last_only=True)


def test_split_by_user_puts_all_times_into_one_period() -> None:
    rule = SplitRule(validate_users=0.1, test_users=0.2)

    split = cut(np.array([30, 10]), np.array([30, 10]), rule)

    assert split == Split(10, 31, 31, 31, validate_users=0.1, test_users=0.2)


BY_USER = {"validate_users": 0.2, "test_users": 0.2}


def user_parts_of(events: Events) -> dict[str, int]:
    """User id -> place of its part."""
    parts = events.parts()[events.offsets[:-1]]
    return dict(zip(events.user_ids, parts.tolist(), strict=True))


def test_users_are_split_by_their_ids_alone(tmp_path: Path) -> None:
    frame = many_users()
    parts = user_parts_of(ingest_at(write_log(tmp_path, frame, split=BY_USER)))

    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    longer = pl.concat([frame[30:], many_users(260)[-120:]])

    assert user_parts_of(ingest_at(write_log(tmp_path, shuffled, split=BY_USER))) == parts
    others = user_parts_of(ingest_at(write_log(tmp_path, longer, split=BY_USER)))
    assert all(others[user] == part for user, part in parts.items() if user in others)
    counts = np.bincount(list(parts.values()), minlength=3)
    assert (np.abs(counts - [120, 40, 40]) < 20).all()


def test_another_share_to_validate_leaves_the_users_to_test_on(tmp_path: Path) -> None:
    less = BY_USER | {"validate_users": 0.1}
    parts = user_parts_of(ingest_at(write_log(tmp_path, many_users(), split=BY_USER)))
    others = user_parts_of(ingest_at(write_log(tmp_path, many_users(), split=less)))

    assert {user for user, part in parts.items() if part == 2} == {
        user for user, part in others.items() if part == 2
    }
    assert sum(part == 1 for part in others.values()) < sum(part == 1 for part in parts.values())


def test_training_knows_nothing_of_the_users_that_are_not_to_train(tmp_path: Path) -> None:
    """Counts, ids and values are those of a log of the users to train on alone."""
    frame = many_users().with_columns(device=pl.format("d{}", pl.col("user_id").str.slice(1)))
    data = {"min_item_count": 1, "context_fields": ["device"]}
    users = {"user_id": [f"u{i}" for i in range(200)], "age": [f"{i}" for i in range(200)]}
    pl.DataFrame(users).write_csv(tmp_path / "users.csv")
    data |= {"users": "users.csv", "user_fields": ["age"]}

    events = ingest_at(write_log(tmp_path, frame, split=BY_USER, data=data))

    training = [user for user, part in user_parts_of(events).items() if part == 0]
    alone = frame.filter(pl.col("user_id").is_in(training))
    counts = dict(alone["item_id"].value_counts().iter_rows())
    rows = {item: row for row, item in enumerate(events.vocabulary.items, FIRST_KNOWN)}
    expected = [counts.get(item, 0) for item in rows]
    assert events.train_popularity[FIRST_KNOWN:].tolist() == expected
    assert events.popularity.sum() == len(frame)
    own_ids = events.item_fields[FIRST_KNOWN:, 0] >= FIRST_KNOWN
    assert own_ids.tolist() == [item in counts for item in rows]
    assert set(events.vocabulary.context["device"]) == {f"d{user[1:]}" for user in training}
    assert set(events.vocabulary.user["age"]) == {user[1:] for user in training}


def test_users_to_test_on_may_be_too_few(tmp_path: Path) -> None:
    with pytest.raises(
        EventsError, match="got no target to test on among the 0 events of its user split"
    ):
        ingest_at(
            write_log(tmp_path, log_frame(), split={"validate_users": 0.6, "test_users": 1e-9})
        )
