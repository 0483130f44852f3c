"""Events: an ingested log as equal-length arrays sorted by user, then time, with everything in dense ids.

Saved as one `.npy` per array, so that later steps map them from disk: memory does not grow with the log.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.schema import FeatureSchema
from models.vocabulary import Vocabulary

ARRAYS = (
    "offsets", "item", "ts_s", "label", "context", "user_fields", "item_fields", "category",
    "train_popularity", "popularity",
)  # fmt: skip
ORACLE = "oracle.npy"
PARTS = ("train", "validate", "test")
SPLIT_SEED = b"absorb split 0"
"""Of the hash that splits users: another one gives other users."""


@dataclass(frozen=True)
class Split:
    """Which targets are for what. Histories are not cut.

    By time: targets in [train_from_s, validate_from_s) are to train, and so on. By user, where `test_users` is above 0:
    all targets of a user are for the part that the hash of its raw id falls into, whenever they were.

    Attributes:
        train_from_s: epoch second; by user: of the first event.
        validate_from_s: epoch second; by user: `end_s`.
        test_from_s: epoch second; by user: `end_s`.
        end_s: epoch second just after the last event.
        validate_users: share of the users; 0: by time.
        test_users: share of the users; 0: by time.
        last_only: a user's only targets are those of the latest time at which it has an event.
    """

    train_from_s: int
    validate_from_s: int
    test_from_s: int
    end_s: int
    validate_users: float = 0.0
    test_users: float = 0.0
    last_only: bool = False

    def parts(
        self, user_ids: Sequence[str], user: NDArray[np.int64], ts_s: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Part of each target as a place in `PARTS`, -1 for none; whether it is a user's last is not looked at.

        Args:
            user_ids: raw ids, [U].
            user: index of each target's user, [n].
            ts_s: epoch second of each target, [n].
        """
        if self.test_users:
            return self._user_parts(user_ids)[user]
        edges = (self.train_from_s, self.validate_from_s, self.test_from_s, self.end_s)
        part = np.full(len(ts_s), -1)
        for place, (low, high) in enumerate(pairwise(edges)):
            part[(ts_s >= low) & (ts_s < high)] = place
        return part

    def is_known(
        self, user_ids: Sequence[str], user: NDArray[np.int64], ts_s: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Events that training may count and take values from; arguments as of `parts`.

        By time: those before the first target to validate. By user: all events of the users to train on, and none of
        the others, not even of their histories: what is known then says nothing of their targets.
        """
        if self.test_users:
            return np.asarray(self.parts(user_ids, user, ts_s) == PARTS.index("train"))
        return np.asarray(ts_s < self.validate_from_s)

    def _user_parts(self, user_ids: Sequence[str]) -> NDArray[np.int64]:
        """Part of each user, [U]. The test comes first: another share to validate leaves it as it is."""
        place = np.array([_hash_share(user_id) for user_id in user_ids])
        edges = [self.test_users, self.test_users + self.validate_users]
        return len(edges) - np.searchsorted(edges, place, side="right")


def _hash_share(user_id: str) -> float:
    """A number from 0 to 1 that depends on the id alone."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=SPLIT_SEED).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True)
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
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(
            user_ids=about["user_ids"],
            has_impressions=about["has_impressions"],
            oracle=np.load(folder / ORACLE, mmap_mode="r") if about["has_oracle"] else None,
            split=Split(**about["split"]),
            schema=FeatureSchema.from_json(about["schema"]),
            vocabulary=Vocabulary.from_bytes((folder / "vocabulary.json").read_bytes()),
            **arrays,
        )
