"""Events: an ingested log as arrays sorted by user, then time, with every value as a dense id.

Saved as one `.npy` file per array. Later steps map them from disk, so their memory does not grow with the log.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.ingest.pools import Pools
from builder.ingest.split import Split
from models.contract.item_texts import ITEM_TEXTS, texts_from_bytes, texts_to_bytes
from models.contract.schema import FIRST_KNOWN, FeatureSchema
from models.contract.vocabulary import Vocabulary

ARRAYS = (
    "offsets",
    "item",
    "ts_s",
    "label",
    "context",
    "user_fields",
    "item_fields",
    "category",
    "train_popularity",
    "popularity",
)
ORACLE = "oracle.npy"
EVENT_POOL = "event_pool.npy"
IS_TARGET, WEIGHT = "is_target.npy", "weight.npy"
ITEM_VALUES = "item_values.json"
HEADER = "events.json"


@dataclass(frozen=True, eq=False)
class Events:
    """An ingested log: U users, E events, V catalogue rows (0 padding, 1 unknown).

    Attributes:
        user_ids: raw ids, [U].
        offsets: events of user u are [offsets[u], offsets[u + 1]); int64 [U + 1].
        item: catalogue row; int32 [E].
        ts_s: epoch second, not decreasing within a user; int64 [E].
        label: 1 clicked or bought, 0 shown only; int8 [E]. All 1 in a log without labels (negatives are drawn).
        context: dense ids of the context fields; int32 [E, Fc].
        user_fields: dense ids of the profile; int32 [U, Fu].
        item_fields: dense ids of each catalogue row's fields, the first being the item id; int32 [V, F].
        category: group from which hard negatives are drawn; int32 [V].
        train_popularity: events, shown or clicked, that training may count (`Split.is_known`); int64 [V].
        popularity: events of the whole log; int64 [V].
        has_impressions: the log has its own negatives (a label column).
        oracle: true probability that each event is a 1, NaN where unknown; float32 [E]. None: a real log.
        item_values: item field -> raw values in the order of their dense ids from `FIRST_KNOWN`. Under "item": the
            items that have an id of their own; under "popularity": ranges of counts such as "4-7". Empty in events
            saved by earlier versions. Used by the builder only: no artifact holds them.
        item_texts: display text of each item, in the order of `vocabulary.items`; None where an item has no text.
            None: the log has no texts.
        event_pool: pool of each event, `NO_POOL` (-1) where the event is history only; int32 [E]. None: no pools.
        is_target: events that are targets; the others stand in histories alone; bool [E]. None: all are targets.
        weight: weight of each target in the loss; float32 [E]. None: all weigh 1.
        pools: candidates of each request, for a log that knows them. An event is a positive of its slate if its item
            is in the slate's pool; the pool's other candidates are negatives. None: no pools.
    """

    user_ids: list[str]
    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    ts_s: NDArray[np.int64]
    label: NDArray[np.int8]
    context: NDArray[np.int32]
    user_fields: NDArray[np.int32]
    item_fields: NDArray[np.int32]
    category: NDArray[np.int32]
    train_popularity: NDArray[np.int64]
    popularity: NDArray[np.int64]
    has_impressions: bool
    split: Split
    schema: FeatureSchema
    vocabulary: Vocabulary
    oracle: NDArray[np.float32] | None = None
    item_values: dict[str, list[str]] = field(default_factory=dict)
    item_texts: list[str | None] | None = None
    event_pool: NDArray[np.int32] | None = None
    pools: Pools | None = None
    is_target: NDArray[np.bool_] | None = None
    weight: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if (self.event_pool is None) != (self.pools is None):
            raise ValueError("event_pool, pools: got one of them, expected both or none")

    def parts(self) -> NDArray[np.int8]:
        """Part of each event as a place in `PARTS`, -1 for none; int8 [E]."""
        row = np.asarray(self.item) - FIRST_KNOWN
        return self.split.parts(self.user_ids, self.users(), self.vocabulary.items, row, self.ts_s)

    def users(self) -> NDArray[np.int64]:
        """Index of each event's user, [E]."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))

    def is_known(self) -> NDArray[np.bool_]:
        """Events that training may count (`Split.is_known`), [E]."""
        return self.split.is_known(self.parts(), np.asarray(self.ts_s))

    def with_length(self, length: int) -> "Events":
        """The log for models of histories of `length` events."""
        if length == self.schema.history_length:
            return self
        return replace(self, schema=replace(self.schema, history_length=length))

    @property
    def has_times(self) -> bool:
        """False if every event is at epoch second 0: a log without times."""
        return bool(self.ts_s.max() > 0)

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def as_of_s(self) -> int:
        """Epoch second just after the last event. States built from this log include everything before it."""
        return int(self.ts_s.max()) + 1

    def save(self, folder: Path) -> None:
        """Write to `folder`, which is created if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        if self.oracle is not None:
            np.save(folder / ORACLE, self.oracle)
        if self.pools is not None and self.event_pool is not None:
            np.save(folder / EVENT_POOL, self.event_pool)
            self.pools.save(folder)
        for name, array in ((IS_TARGET, self.is_target), (WEIGHT, self.weight)):
            if array is not None:
                np.save(folder / name, array)
        (folder / "vocabulary.json").write_bytes(self.vocabulary.to_bytes())
        (folder / ITEM_VALUES).write_text(json.dumps(self.item_values))
        if self.item_texts is not None:
            (folder / ITEM_TEXTS).write_bytes(texts_to_bytes(self.item_texts))
        header = {
            "user_ids": self.user_ids,
            "has_impressions": self.has_impressions,
            "has_oracle": self.oracle is not None,
            "has_pools": self.pools is not None,
            "has_targets": self.is_target is not None,
            "has_weights": self.weight is not None,
            "split": asdict(self.split),
            "schema": asdict(self.schema),
        }
        (folder / HEADER).write_text(json.dumps(header))

    @classmethod
    def load(cls, folder: Path) -> "Events":
        """Inverse of `save`. Arrays are mapped into memory, not read."""
        header = json.loads((folder / HEADER).read_text())
        values, texts = folder / ITEM_VALUES, folder / ITEM_TEXTS
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        has_pools = header.get("has_pools", False)  # events saved by earlier versions have none
        return cls(
            user_ids=header["user_ids"],
            has_impressions=header["has_impressions"],
            oracle=np.load(folder / ORACLE, mmap_mode="r") if header["has_oracle"] else None,
            split=Split(**header["split"]),
            schema=FeatureSchema.from_json(header["schema"]),
            item_values=json.loads(values.read_text()) if values.is_file() else {},
            item_texts=texts_from_bytes(texts.read_bytes()) if texts.is_file() else None,
            event_pool=np.load(folder / EVENT_POOL, mmap_mode="r") if has_pools else None,
            pools=Pools.load(folder) if has_pools else None,
            is_target=_mapped(folder / IS_TARGET, header.get("has_targets", False)),
            weight=_mapped(folder / WEIGHT, header.get("has_weights", False)),
            vocabulary=Vocabulary.from_bytes((folder / "vocabulary.json").read_bytes()),
            **arrays,
        )


def _mapped(path: Path, is_there: bool) -> NDArray[Any] | None:
    return np.load(path, mmap_mode="r") if is_there else None


def read_user_ids(folder: Path) -> list[str]:
    """Raw ids of the users of a saved log, without its arrays.

    Raises:
        OSError: the folder holds no log.
        ValueError: its header cannot be read.
    """
    user_ids: list[str] = json.loads((folder / HEADER).read_text())["user_ids"]
    return user_ids
