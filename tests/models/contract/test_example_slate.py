"""A real slate of the log, in an artifact."""

import pytest

from models.contract.artifact import load_artifact, save_artifact
from models.contract.example_slate import EXAMPLE_SLATE, ExampleSlate
from tests.models.contract.test_artifact import CONTENTS, MANIFEST_OF_TINY

SLATE = ExampleSlate(["apple", "pêche"], {"display": ["front", None]})


def test_it_travels_in_an_artifact_that_has_one(tmp_path) -> None:
    with_slate = save_artifact(
        tmp_path, MANIFEST_OF_TINY, CONTENTS | {EXAMPLE_SLATE: SLATE.to_bytes()}
    )
    without = save_artifact(tmp_path, MANIFEST_OF_TINY, CONTENTS)

    assert load_artifact(tmp_path, with_slate.artifact_id).example_slate() == SLATE
    assert without.example_slate() is None


def test_a_field_has_a_value_for_each_candidate() -> None:
    with pytest.raises(ValueError, match="display: got 1 values, expected one for each of 2 cand"):
        ExampleSlate(["apple", "pear"], {"display": ["front"]})
