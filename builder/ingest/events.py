"""Events: an ingested log as equal-length arrays sorted by user, then time, with everything in dense ids.

Saved as one `.npy` per array, so that later steps map them from disk: memory does not grow with the log.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builder.ingest.split import Split
from models.contract.schema import FIRST_KNOWN, FeatureSchema
from models.contract.vocabulary import Vocabulary

ARRAYS = (
    "offsets", "item", "ts_s", "label", "context", "user_fields", "item_fields", "category",
    "train_popularity", "popularity",
)  # fmt: skip
ORACLE = "oracle.npy"
ITEM_VALUES = "item_values.json"


@dataclass(frozen=True, eq=False)
class Events:
    """An ingested log: U users, E events, V catalogue rows (0 padding, 1 unknown).

    Attributes:
        user_ids: raw ids, [U].
        offsets: events of user u are [offsets[u], offsets[u + 1]); int64 [U + 1].
        item: catalogue row; int32 [E].
        ts_s: epoch second, not decreasing within a user; int64 [E].
        label: 1 clicked or bought, 0 shown only; int8 [E]. A log without labels has all 1 (negatives are drawn).
        context: dense ids of the context fields; int32 [E, Fc].
        user_fields: dense ids of the profile; int32 [U, Fu].
        item_fields: dense ids of each catalogue row's fields, the first being the item id; int32 [V, F].
        category: group from which hard negatives are drawn; int32 [V].
        train_popularity: events, shown or clicked, that training may count (`Split.is_known`); int64 [V].
        popularity: events of the whole log; int64 [V].
        has_impressions: the log has its own negatives (a label column).
        oracle: true probability that each event is a 1, NaN where nobody knows; float32 [E]. None: a real log.
        item_values: item field -> raw values in the order of their dense ids from `FIRST_KNOWN`. For "item" those are
            items that have an id of their own, for "popularity" counts of events such as "4-7". Empty in events saved
            before there were any. The builder's alone: no artifact holds them.
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

    def parts(self) -> NDArray[np.int8]:
        """Part of each event as a place in `PARTS`, -1 for none; int8 [E]."""
        user = np.repeat(np.arange(self.num_users), np.diff(self.offsets))
        row = np.asarray(self.item) - FIRST_KNOWN
        return self.split.parts(self.user_ids, user, self.vocabulary.items, row, self.ts_s)

    def is_known(self) -> NDArray[np.bool_]:
        """Events that training may count (`Split.is_known`), [E]."""
        return self.split.is_known(self.parts(), np.asarray(self.ts_s))

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
        """Epoch second just after the last event: states built from this log know everything before it."""
        return int(self.ts_s.max()) + 1

    def save(self, folder: Path) -> None:
        """Write to `folder` (made if absent)."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        if self.oracle is not None:
            np.save(folder / ORACLE, self.oracle)
        (folder / "vocabulary.json").write_bytes(self.vocabulary.to_bytes())
        (folder / ITEM_VALUES).write_text(json.dumps(self.item_values))
        about = {
            "user_ids": self.user_ids,
            "has_impressions": self.has_impressions,
            "has_oracle": self.oracle is not None,
            "split": asdict(self.split),
            "schema": asdict(self.schema),
        }
        (folder / "events.json").write_text(json.dumps(about))

    @classmethod
    def load(cls, folder: Path) -> "Events":
        """Inverse of `save`; arrays are mapped, not read."""
        about = json.loads((folder / "events.json").read_text())
        values = folder / ITEM_VALUES
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(
            user_ids=about["user_ids"],
            has_impressions=about["has_impressions"],
            oracle=np.load(folder / ORACLE, mmap_mode="r") if about["has_oracle"] else None,
            split=Split(**about["split"]),
            schema=FeatureSchema.from_json(about["schema"]),
            item_values=json.loads(values.read_text()) if values.is_file() else {},
            vocabulary=Vocabulary.from_bytes((folder / "vocabulary.json").read_bytes()),
            **arrays,
        )
