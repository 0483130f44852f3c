"""Errors keep their class, text and attributes when they are pickled on the way out of a worker process."""

import pickle

import pytest

from models.contract.errors import AbsorbError, ForeignRecordError, RequestError, UnknownModelError

ERRORS = [
    RequestError("user_id", "", "an id"),
    ForeignRecordError("artifact", "aa", "bb"),
    UnknownModelError("lrae", ["din", "lrea"]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: AbsorbError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # bytes of our own
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
