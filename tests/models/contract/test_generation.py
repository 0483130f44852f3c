"""Keys and pointers: the documented bytes, and every damaged pointer refused."""

import json
import sys
from dataclasses import asdict, replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import models.contract.generation as checked
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


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it runs in production. The tests' import hook checks annotations, and would refuse wrong types."""
    name, path = "generation_without_type_checks", str(Path(checked.__file__))
    spec = spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", 1, "model: got 1, expected 1 to 64 of"),
        ("name", None, "name: got None, expected a name such as"),
        ("artifact_id", 3.5, r"artifact_id: got 3\.5, expected 32 of"),
        ("slot", 7, "slot: got 7, expected a name such as"),
        ("num_users", "2", "num_users: got '2', expected a whole number"),
        ("as_of_s", None, "as_of_s: got None, expected a whole number"),
        ("created_s", True, "created_s: got True, expected a whole number"),
        ("dtype", "fp64", "dtype: got 'fp64', expected one of"),
        ("dtype", None, "dtype: got None, expected one of"),
        ("over", [{"name": 1, "artifact_id": ARTIFACT}], "name: got 1, expected a name such as"),
        (
            "over",
            [{"name": GENERATION.name, "artifact_id": 1}],
            "artifact_id: got 1, expected 32 of",
        ),
    ],
)
@pytest.mark.parametrize("place", ["current", "previous"])
def test_the_reader_itself_refuses_a_field_of_another_type(unchecked, field, value, message, place):
    fields = asdict(Pointer(GENERATION, GENERATION))
    fields[place][field] = value

    with pytest.raises(GenerationError, match=message):
        unchecked.Pointer.from_bytes(json.dumps(fields).encode(), "key")


@pytest.mark.parametrize("previous", [{}, [], "", 0])
def test_a_pointer_with_an_empty_previous_is_refused(previous):
    raw = json.dumps({"current": asdict(GENERATION), "previous": previous}).encode()

    with pytest.raises(GenerationError):
        Pointer.from_bytes(raw, "key")
