"""Response bodies of /v1/items, as OpenAPI documents them; `item_routes.py` makes them."""

from typing import Literal

from service.transport.schemas import Answer


class NewItemMatch(Answer):
    """What one model makes of a new item."""

    scored: Literal["new", "known", "unknown"]
    """new: by its fields; known: the catalogue holds it, so the fields are not used; unknown: as any unknown item,
    for the model has no item fields, or knows none of the values."""

    matched: list[str]
    """Item fields that count: those of the catalogue's combination that has most of them. Empty unless new."""

    unknown_fields: dict[str, str]
    """Item field -> its value, for values that no item had in training; they say nothing to the model."""


class NewItemAnswer(Answer):
    """A registered item."""

    item_id: str
    models: dict[str, NewItemMatch]
    """Model that serves -> what it makes of the item."""


class NewItemsAnswer(Answer):
    """Response of POST /v1/items."""

    items: list[NewItemAnswer]
    """In the order of the request."""

    version: int
    """Version of the registry, which grows with every change."""


class NewItemEntry(Answer):
    """A registered item."""

    item_id: str
    fields: dict[str, str]
    """Item field -> raw value."""

    at_s: int
    """Epoch second at which it came."""


class NewItemList(Answer):
    """Response of GET /v1/items."""

    items: list[NewItemEntry]
    version: int
    """Version of the registry, which grows with every change."""
