import json
from dataclasses import asdict, replace

import pytest

from models.contract.schema import FeatureSchema, Field

SCHEMA = FeatureSchema(
    item_fields=(Field("item", 10), Field("brand", 4)),
    user_fields=(Field("age", 5),),
    context_fields=(Field("hour", 26),),
    num_items=12,
    history_length=64,
    recent_length=8,
)


def test_the_fingerprint_is_16_hex_digits_of_the_content():
    same = replace(SCHEMA, item_fields=(Field("item", 10), Field("brand", 4)))

    assert same.fingerprint() == SCHEMA.fingerprint()
    assert len(bytes.fromhex(SCHEMA.fingerprint())) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"item_fields": (Field("item", 10),)},
        {"item_fields": (Field("brand", 4), Field("item", 10))},
        {"item_fields": (Field("item", 10), Field("brand", 5))},
        {"item_fields": (Field("item", 10), Field("label", 4))},
        {"user_fields": ()},
        {"user_fields": (Field("age", 6),)},
        {"user_fields": (Field("hour", 26),), "context_fields": (Field("age", 5),)},
        {"context_fields": (Field("hour", 26), Field("day", 9))},
        {"num_items": 13},
        {"history_length": 65},
        {"recent_length": 9},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_any_field(change):
    assert replace(SCHEMA, **change).fingerprint() != SCHEMA.fingerprint()


def test_a_schema_survives_a_round_trip():
    returned = FeatureSchema.from_json(json.loads(json.dumps(asdict(SCHEMA))))

    assert returned == SCHEMA
    assert returned.fingerprint() == SCHEMA.fingerprint()


@pytest.mark.parametrize("name", ["item_fields", "num_items"])
def test_a_schema_that_lacks_a_key_is_refused(name):
    fields = asdict(SCHEMA)
    del fields[name]

    with pytest.raises((KeyError, TypeError), match=name):
        FeatureSchema.from_json(fields)
