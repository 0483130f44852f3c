"""What a model's inputs are: fields, vocabulary sizes, lengths. Part of every artifact's identity."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

PADDING = 0
"""Id (and catalogue row) of "nothing here"; its embedding is zero."""
UNKNOWN = 1
"""Id (and catalogue row) of "something never seen in training"."""
FIRST_KNOWN = 2


@dataclass(frozen=True)
class Field:
    """One categorical field.

    Attributes:
        name: as in the recipe and in a request's `context`.
        size: number of ids, the reserved `PADDING` and `UNKNOWN` included.
    """

    name: str
    size: int


@dataclass(frozen=True)
class FeatureSchema:
    """Inputs of a model.

    Attributes:
        item_fields: fields of an item; the first is the item's own id. An event and a candidate have the same
            fields, since both are a row of the catalogue.
        user_fields: profile fields, known offline.
        context_fields: fields known only at request time.
        num_items: rows of the catalogue, `PADDING` and `UNKNOWN` included.
        history_length: L, events that `encode` sees (the latest).
        recent_length: N, events that `score` sees (the latest).
    """

    item_fields: tuple[Field, ...]
    user_fields: tuple[Field, ...]
    context_fields: tuple[Field, ...]
    num_items: int
    history_length: int
    recent_length: int

    def fingerprint(self) -> str:
        """Hash of everything above, 16 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "FeatureSchema":
        """Inverse of `dataclasses.asdict`."""
        kinds = ("item_fields", "user_fields", "context_fields")
        lists = {kind: tuple(Field(**field) for field in fields[kind]) for kind in kinds}
        return cls(**{**fields, **lists})
