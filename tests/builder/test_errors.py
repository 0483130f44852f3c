"""Errors of the builder keep class, text and attributes when they leave a worker process."""

import pickle

import pytest

from builder.errors import EventsError, LockHeldError, RecipeError, WeightsTamperedError
from models.contract.errors import AbsorbError

ERRORS = [
    RecipeError("recipe.toml", ["a: got 1", "b: missing"]),
    EventsError("log.csv", "is empty"),
    LockHeldError("var/runs/x", "host pid 1"),
    WeightsTamperedError("model.safetensors", "aa", "bb"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: AbsorbError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # bytes of our own
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
