"""The inputs of a model: fields, vocabulary sizes and lengths. They are part of an artifact's identity."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

PADDING = 0
"""Id, and catalogue row, of an empty position. Its embedding is zero."""
UNKNOWN = 1
"""Id, and catalogue row, of a value that training has not seen."""
FIRST_KNOWN = 2
"""First id, and catalogue row, of a known value."""


@dataclass(frozen=True)
class Field:
    """One categorical field.

    Attributes:
        name: name in the recipe and in a request's `context`.
        size: number of ids, including `PADDING` and `UNKNOWN`.
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
        num_items: rows of the catalogue, including `PADDING` and `UNKNOWN`.
        history_length: L, number of latest events that `encode` reads.
        recent_length: N, number of latest events that `score` reads.
        candidate_fields: fields that a request gives with each candidate (its placement, its price); the model does
            not find them in the catalogue.
    """

    item_fields: tuple[Field, ...]
    user_fields: tuple[Field, ...]
    context_fields: tuple[Field, ...]
    num_items: int
    history_length: int
    recent_length: int
    candidate_fields: tuple[Field, ...] = ()

    def fingerprint(self) -> str:
        """Hash of all attributes, 16 hex digits; empty candidate fields are left out, as in older artifacts."""
        values = asdict(self)
        if not self.candidate_fields:
            del values["candidate_fields"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "FeatureSchema":
        """Inverse of `dataclasses.asdict`."""
        fields = {"candidate_fields": (), **fields}  # older artifacts have none
        kinds = ("item_fields", "user_fields", "context_fields", "candidate_fields")
        lists = {kind: tuple(Field(**field) for field in fields[kind]) for kind in kinds}
        return cls(**{**fields, **lists})
