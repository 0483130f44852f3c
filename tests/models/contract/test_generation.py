"""Keys and pointers: the documented bytes, and every damaged pointer refused."""

import json
from dataclasses import asdict, replace

import pytest

from models.contract.errors import (
    GenerationError,
)
from models.contract.generation import Generation, Pointer, pointer_key

ARTIFACT = "0123456789abcdef" * 2

GENERATION = Generation("lrea", "20261122T031500Z-0a1b2c", ARTIFACT, 2, 7, 8, "fp16")


def test_keys_are_as_documented():
    assert GENERATION.key("u:1") == "absorb:lrea:20261122T031500Z-0a1b2c:u:1"
    assert GENERATION.key_pattern() == "absorb:lrea:20261122T031500Z-0a1b2c:*"
    assert pointer_key("lrea") == "absorb:{control}:pointer:lrea"


@pytest.mark.parametrize("previous", [None, replace(GENERATION, name="20261121T031500Z-ffffff")])
def test_a_pointer_survives_a_round_trip(previous):
    pointer = Pointer(GENERATION, previous)

    assert Pointer.from_bytes(pointer.to_bytes(), "key") == pointer


@pytest.mark.parametrize("raw", [b"", b"\xff", b"null", b"[]", b"{}", b'{"current": {}}', b'"x"'])
def test_bytes_that_are_not_a_pointer_are_refused(raw):
    with pytest.raises(GenerationError, match="generation pointer the-key: cannot be read"):
        Pointer.from_bytes(raw, "the-key")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 1),
        ("name", None),
        ("artifact_id", 3.5),
        ("num_users", "2"),
        ("as_of_s", None),
        ("created_s", True),
        ("dtype", "fp64"),
    ],
)
@pytest.mark.parametrize("place", ["current", "previous"])
def test_a_pointer_with_a_field_of_another_type_is_refused(field, value, place):
    fields = asdict(Pointer(GENERATION, GENERATION))
    fields[place][field] = value

    with pytest.raises(GenerationError, match=field):
        Pointer.from_bytes(json.dumps(fields).encode(), "key")


@pytest.mark.parametrize("previous", [{}, [], "", 0])
def test_a_pointer_with_an_empty_previous_is_refused(previous):
    raw = json.dumps({"current": asdict(GENERATION), "previous": previous}).encode()

    with pytest.raises(GenerationError):
        Pointer.from_bytes(raw, "key")
