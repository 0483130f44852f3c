"""Routes of new items: register them, list them, remove one. Administrators' routes: they change what everyone gets."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema

from models.contract.errors import RequestError
from models.contract.schema import UNKNOWN
from models.contract.vocabulary import Vocabulary, check_id
from models.live.new_items import MAX_AT_ONCE, MAX_ITEM_FIELDS, MAX_VALUE, read_fields
from service.generations.new_items import NewItemRegistry
from service.http.answers import Json
from service.http.candidates import ID_SCHEMA, read_id, require_list, short
from service.http.item_schemas import NewItemList, NewItemsAnswer
from service.http.requests import parse_request
from service.transport.auth import Access
from service.transport.body import BodyLimit, read_body
from service.transport.limits import SlateLimits
from service.transport.parser_thread import ParserThread
from service.transport.responses import ERRORS, JsonResponse, described_body

KEYS = frozenset({"item_id", "fields"})
LIMITS = SlateLimits(MAX_AT_ONCE, MAX_ITEM_FIELDS)
"""An item is as long as a candidate with fields."""
FIELD_SCHEMA = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_VALUE},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
    ]
}
NEW_ITEMS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_AT_ONCE,
    "items": {
        "type": "object",
        "properties": {
            "item_id": ID_SCHEMA,
            "fields": {
                "type": "object",
                "description": "Item field -> value; absent or null: the value is unknown.",
                "minProperties": 1,
                "maxProperties": MAX_ITEM_FIELDS,
                "additionalProperties": FIELD_SCHEMA,
            },
        },
        "required": ["item_id", "fields"],
        "additionalProperties": False,
    },
}


def _items(value: object) -> dict[str, dict[str, str]]:
    expected = f"a list of 1 to {MAX_AT_ONCE} objects with item_id and fields"
    items: dict[str, dict[str, str]] = {}
    for at, one in enumerate(require_list("items", value, MAX_AT_ONCE, expected)):
        where = f"items[{at}]"
        if not isinstance(one, dict) or one.keys() != KEYS:
            raise RequestError(where, short(one), "an object with item_id and fields, no more")
        item_id = read_id(f"{where}.item_id", one["item_id"])
        if item_id in items:
            raise RequestError(f"{where}.item_id", item_id, "each item once")
        items[item_id] = read_fields(f"{where}.fields", one["fields"])
    return items


class ItemsRequest(BaseModel):
    """Items that no build knows yet."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {"items": [{"item_id": "9910", "fields": {"department": "GROCERY", "maker": 69}}]}
            ]
        },
    )

    items: Annotated[
        dict[str, dict[str, str]], PlainValidator(_items), WithJsonSchema(NEW_ITEMS_SCHEMA)
    ]
    """Items, each with the values of its item fields. An item that is registered gets these fields instead."""


def item_routes(
    registry: NewItemRegistry, body: BodyLimit, access: Access, parsers: ParserThread
) -> APIRouter:
    """POST, GET and DELETE of /v1/items."""
    router = APIRouter(prefix="/v1", responses=ERRORS, dependencies=[Depends(access.admin)])

    @router.post(
        "/items", response_model=NewItemsAnswer, openapi_extra=described_body(ItemsRequest)
    )
    async def add(request: Request) -> Response:
        """Register new items: they are scored by their item fields until a build knows them.

        This process scores them at once, every other one within its poll interval.
        """
        raw = await read_body(request, body)
        sent = await parsers.run(_parse, raw)
        await registry.add(sent.items)
        return JsonResponse(_added(registry, sent.items))

    @router.get("/items", response_model=NewItemList)
    async def listed() -> Response:
        """The new items that this process knows."""
        items = registry.found.items.values()
        entries = [
            {"item_id": item.item_id, "fields": item.fields, "at_s": item.at_s} for item in items
        ]
        return JsonResponse({"items": entries, "version": registry.found.version})

    @router.delete("/items/{item_id:path}", status_code=204, response_class=Response)
    async def remove(item_id: str) -> Response:
        """Forget a new item: it is scored as an unknown one again."""
        await registry.drop(check_id("item_id", item_id))
        return Response(status_code=204)

    return router


def _parse(raw: bytes) -> ItemsRequest:
    return parse_request(ItemsRequest, raw, LIMITS)


def _added(registry: NewItemRegistry, items: Mapping[str, Mapping[str, str]]) -> Json:
    """Make a `NewItemsAnswer`."""
    answers = [
        {
            "item_id": item,
            "models": {
                model: _match(vocabulary, item, fields) for model, vocabulary in registry.models()
            },
        }
        for item, fields in items.items()
    ]
    return {"items": answers, "version": registry.found.version}


def _match(vocabulary: Vocabulary, item: str, fields: Mapping[str, str]) -> Json:
    """Make a `NewItemMatch`."""
    prototypes = vocabulary.prototypes
    is_known = bool(vocabulary.item_rows([item])[0] != UNKNOWN)
    if is_known or prototypes is None:
        scored = "known" if is_known else "unknown"
        return {"scored": scored, "matched": [], "unknown_fields": {}}
    place = prototypes.find(fields)
    return {
        "scored": "unknown" if place is None else "new",
        "matched": [] if place is None else list(prototypes.named(place)),
        "unknown_fields": {name: fields[name] for name in prototypes.unknown(fields)},
    }
