"""Errors come out of worker processes as they went in."""

import pickle

import pytest

from models.contract.errors import (
    AbsorbError,
    EventsError,
    LockHeldError,
    RecipeError,
    RequestError,
    WeightsTamperedError,
)

ERRORS = [
    RecipeError("recipe.toml", ["a: got 1", "b: missing"]),
    EventsError("log.csv", "is empty"),
    LockHeldError("var/runs/x", "host pid 1"),
    RequestError("user_id", "", "an id"),
    WeightsTamperedError("model.safetensors", "aa", "bb"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_its_way_out_of_a_process(error: AbsorbError) -> None:
    found = pickle.loads(pickle.dumps(error))  # of our own making
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.__dict__ == error.__dict__
