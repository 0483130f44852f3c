"""Events and publishes over a real cache, and what every record must be, by an oracle without the folders' code.

The oracle's window is written as a plain list, and its state is the encode graph's, one user at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from builder.publish.blue_green import publish
from builder.publish.generations import new_generation
from builder.publish.live_events import catch_up_with
from builder.publish.rolling import publish_in_place
from models.contract.age import age_buckets
from models.contract.artifact import ENCODE, Artifact
from models.contract.generation import Generation, Pointer, pointer_key
from models.contract.record import UserRecord, decode_record, encode_record
from models.contract.schema import UNKNOWN
from models.contract.state_spec import RecordDtype
from models.live.additive import MAX_FOLDS
from models.live.event import Event
from models.live.history import BaseHistory, encode_history
from models.live.keys import EVENT_FIELD, IN_KEY, TOUCHED_KEY, log_key
from models.live.new_items import NewItem, drop_items, put_items
from service.follow.graph import encoder
from tests.service.follow.bounds import added, allowed

MODEL = "followed"
NEW_ITEM = "an item of tomorrow"
DAY_S = 86_400
FIRST_CUT_S = 1_700_000_000
NOW_S = FIRST_CUT_S + 30 * DAY_S
LATENESS_S = 7 * DAY_S
Bought = tuple[int, str]
"""Epoch second, raw item id."""


@dataclass
class Truth:
    """What happened, and the cache that should say so.

    Attributes:
        redis: the cache.
        artifacts: those that publishes alternate between.
        dtype: of the records.
        log: user -> what the batch log holds, by time.
        live: user -> event id -> the first event of that id.
        bases: generation -> user -> what its build knew.
        forgotten: users.
        registered: new item -> its fields.
    """

    redis: Redis
    artifacts: Sequence[Artifact]
    dtype: RecordDtype = "fp32"
    log: dict[str, list[Bought]] = field(default_factory=dict)
    live: dict[str, dict[str, Event]] = field(default_factory=dict)
    bases: dict[str, dict[str, list[Bought]]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    registered: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.encoders = {
            artifact.artifact_id: encoder(artifact.graph(ENCODE)) for artifact in self.artifacts
        }
        self._known: dict[tuple[str, int], dict[str, NDArray[np.float64]]] = {}

    @property
    def items(self) -> list[str]:
        """Some items that the artifacts know, and one that they do not."""
        return [*self.artifacts[0].vocabulary.items[:9], NEW_ITEM]

    def some_fields(self, number: int) -> dict[str, str]:
        """Values of item fields that a prototype of the first artifact has; others than those of the next number."""
        prototypes = self.artifacts[0].vocabulary.prototypes
        assert prototypes is not None
        return prototypes.named(number % len(prototypes))

    def pointer(self) -> Pointer | None:
        raw: Any = self.redis.get(pointer_key(MODEL))
        return None if raw is None else Pointer.from_bytes(raw, MODEL)

    def current(self) -> Generation:
        """The generation that serves."""
        pointer = self.pointer()
        assert pointer is not None
        return pointer.current

    def post(self, event: Event, *, in_log: bool = True) -> None:
        """As POST /v1/events, or as a source that writes into the stream alone."""
        if event.user_id in self.forgotten:
            return
        first = self.live.setdefault(event.user_id, {}).setdefault(event.event_id, event)
        raw = event.to_bytes()
        if in_log:
            if (
                self.redis.hsetnx(log_key(event.user_id), event.event_id, raw)
                and first is not event
            ):
                # It was sent before into the stream alone, and is not folded yet: this one is the first in the log.
                self.live[event.user_id][event.event_id] = event
            self.redis.hincrby(log_key(event.user_id), "", 1)
            self.redis.zadd(TOUCHED_KEY, {event.user_id: 1000 * NOW_S}, gt=True)
        self.redis.xadd(IN_KEY, {EVENT_FIELD: raw})

    def register(self, item: str, fields: dict[str, str]) -> None:
        """As POST /v1/items."""
        self.registered[item] = fields
        put_items(self.redis, [NewItem(item, fields, NOW_S)])

    def unregister(self, item: str) -> None:
        """As DELETE /v1/items."""
        self.registered.pop(item, None)
        drop_items(self.redis, [item])

    def deliver(self, user: str) -> None:
        """The batch log gets what the stream got."""
        known = self.log.setdefault(user, [])
        for event in self.live.get(user, {}).values():
            bought = event.ts_s, event.item_id
            wanted = sum((e.ts_s, e.item_id) == bought for e in self.live[user].values())
            if known.count(bought) < wanted:
                known.append(bought)
        known.sort(key=lambda one: one[0])

    def publish(self, artifact: Artifact, cut_s: int, *, in_place: bool, **hooks: Any) -> Pointer:
        """Publish what the batch log holds before the cut, as a build does."""
        users = {
            user: [one for one in known if one[0] < cut_s]
            for user, known in self.log.items()
            if user not in self.forgotten
        }
        now = datetime.fromtimestamp(NOW_S, UTC)
        generation = new_generation(MODEL, artifact.artifact_id, len(users), cut_s, self.dtype, now)
        self.bases[generation.name] = users
        bases = [_base(user, known, artifact, cut_s) for user, known in users.items()]
        records = [(base.user_id, self._published(artifact, base)) for base in bases]
        histories = [(base.user_id, encode_history(base)) for base in bases]
        arguments: dict[str, Any] = {
            "histories": histories,
            "catch_up": catch_up_with(self.redis, artifact),
            **hooks,
        }
        spec = artifact.manifest.state_spec
        if in_place:
            return publish_in_place(self.redis, generation, records, spec, wait_s=0.0, **arguments)
        return publish(self.redis, generation, records, spec, **arguments)

    def _published(self, artifact: Artifact, base: BaseHistory) -> bytes:
        known = list(zip(base.ts_s.tolist(), base.rows.tolist(), strict=True))
        ages_s = [base.as_of_s - ts_s for ts_s, _ in known]
        record = self._record(artifact, base.user_id, known, base.as_of_s, ages_s)
        spec = artifact.manifest.state_spec
        return encode_record(record, spec, artifact.artifact_id, self.dtype)

    def expected(self, user: str, generation: Generation) -> UserRecord | None:
        """The record of a user; None if there must be none."""
        if user in self.forgotten:
            return None
        artifact = next(a for a in self.artifacts if a.artifact_id == generation.artifact_id)
        schema = artifact.manifest.schema
        length = max(schema.history_length, schema.recent_length)
        base = self.bases[generation.name].get(user)
        live = [
            event
            for event in self.live.get(user, {}).values()
            if event.ts_s >= generation.as_of_s - LATENESS_S
        ]
        if base is None and not live:
            return None
        events = [(ts_s, _row(artifact, item)) for ts_s, item in (base or [])[-length:]]
        rows = {
            item: artifact.vocabulary.new_item_row(fields)
            for item, fields in self.registered.items()
        }
        window = _merge(artifact, events, live, generation.as_of_s, length, rows)
        as_of_s = max([generation.as_of_s, *(ts_s for ts_s, _ in window)])
        # A state that is a sum has its ages from the cut; events after it have the gap's.
        is_sum = all(one.folds for one in artifact.manifest.state_spec if one.name != "profile")
        cut_s, gap_s = generation.as_of_s, artifact.manifest.request_gap_s
        if is_sum:
            ages_s = [gap_s if ts_s > cut_s else cut_s - ts_s for ts_s, _ in window]
        else:
            aged_from_s = as_of_s + gap_s if as_of_s > cut_s else cut_s
            ages_s = [aged_from_s - ts_s for ts_s, _ in window]
        return self._record(artifact, user, window, as_of_s, ages_s)

    def _record(
        self,
        artifact: Artifact,
        user: str,
        window: Sequence[tuple[int, int]],
        as_of_s: int,
        ages_s: Sequence[int],
    ) -> UserRecord:
        schema, spec = artifact.manifest.schema, artifact.manifest.state_spec
        L, N = schema.history_length, schema.recent_length
        latest = list(window)[-L:]
        pad = [0] * (L - len(latest))
        ages = [int(age_buckets(np.array([age_s]))[0]) for age_s in ages_s[-L:]]
        feed = {
            "history": np.array([pad + [row for _, row in latest]], np.int64),
            "ages": np.array([pad + ages], np.int64),
            "user_fields": np.full((1, len(schema.user_fields)), UNKNOWN, np.int64),
        }
        tensors = self.encoders[artifact.artifact_id](feed)
        state = {one.name: values[0] for one, values in zip(spec, tensors, strict=True)}
        recent = [row for _, row in window][-N:]
        padded = np.array([0] * (N - len(recent)) + recent, np.int32)
        return UserRecord(user, as_of_s, padded, state)

    def stored(self, user: str, generation: Generation) -> UserRecord | None:
        raw: Any = self.redis.get(generation.key(user))
        if raw is None:
            return None
        artifact = next(a for a in self.artifacts if a.artifact_id == generation.artifact_id)
        spec = artifact.manifest.state_spec
        return decode_record(raw, spec, artifact.artifact_id, user)

    def check(self) -> int:
        """Compare every record of the generation that serves with the oracle's; returns their number."""
        pointer = self.pointer()
        if pointer is None:
            return 0
        users = sorted({*self.log, *self.live})
        for user in users:
            got = self.stored(user, pointer.current)
            expected = self.expected(user, pointer.current)
            assert (got is None) == (expected is None), (user, got, expected)
            if got is not None and expected is not None:
                self._compare(got, expected, pointer.current.artifact_id)
        return len(users)

    def _compare(self, got: UserRecord, expected: UserRecord, artifact_id: str) -> None:
        user = got.user_id
        assert got.as_of_s == expected.as_of_s, user
        np.testing.assert_array_equal(got.recent, expected.recent, user)
        artifact = next(one for one in self.artifacts if one.artifact_id == artifact_id)
        folds = 0 if got.mark is None else got.mark.folds
        assert folds <= MAX_FOLDS[self.dtype]
        more = self._added(artifact, folds)
        for name, values in expected.state.items():
            limit = allowed(values, self.dtype) + more.get(name, 0.0)
            difference = np.abs(got.state[name].astype(np.float64) - values)
            assert (difference <= limit).all(), (user, name, (difference / limit).max())

    def _added(self, artifact: Artifact, folds: int) -> dict[str, NDArray[np.float64]]:
        key = artifact.artifact_id, folds
        if key not in self._known:
            self._known[key] = added(artifact, self.dtype, folds)
        return self._known[key]


def _row(artifact: Artifact, item: str) -> int:
    items = list(artifact.vocabulary.items)
    return items.index(item) + 2 if item in items else UNKNOWN


def _base(user: str, known: Sequence[Bought], artifact: Artifact, cut_s: int) -> BaseHistory:
    schema = artifact.manifest.schema
    latest = known[-max(schema.history_length, schema.recent_length) :]
    return BaseHistory(
        user,
        artifact.artifact_id,
        cut_s,
        np.full(len(schema.user_fields), UNKNOWN, np.int32),
        np.array([_row(artifact, item) for _, item in latest], np.int32),
        np.array([ts_s for ts_s, _ in latest], np.int64),
    )


def _merge(
    artifact: Artifact,
    base: Sequence[tuple[int, int]],
    live: Sequence[Event],
    cut_s: int,
    length: int,
    new_rows: Mapping[str, int],
) -> list[tuple[int, int]]:
    """Events of the base, and live ones beyond what the base has of the same row and second.

    Items that the artifact does not know have the rows in `new_rows`, once it is decided what the base has.
    """
    left, window = list(base), list(base)
    for event in sorted(live, key=lambda one: (one.ts_s, one.event_id)):
        one = event.ts_s, _row(artifact, event.item_id)
        if event.ts_s <= cut_s:
            if len(base) == length and event.ts_s <= base[0][0]:
                continue
            if one in left:
                left.remove(one)
                continue
        place = sum(ts_s <= event.ts_s for ts_s, _ in window)
        row = new_rows.get(event.item_id, UNKNOWN) if one[1] == UNKNOWN else one[1]
        window.insert(place, (event.ts_s, row))
    return window[-length:]


def event(user: str, item: str, ts_s: int, name: str) -> Event:
    return replace(Event(name, user, item, ts_s), kind="buy")
