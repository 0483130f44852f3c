"""Ids of the log's fields become those of an artifact whose buckets have other edges."""

from builder.gate.inputs import _table
from models.contract.field_reader import BooleanReader, DateReader, NumberReader, WordReader
from models.contract.schema import PADDING, UNKNOWN


def test_a_bucket_of_the_log_is_the_artifacts_bucket_of_its_smallest_number():
    names = ["", "-4", "5", "12.5", "1000"]
    numbers = NumberReader((5.0, 20.0), has_missing=False)
    assert _table(numbers, names).tolist() == [PADDING, UNKNOWN, UNKNOWN, 2, 3, 3, 4]
    ages = DateReader(NumberReader((5.0, 20.0), has_missing=True))
    read = _table(ages, ["", "-P4D", "P5D", "P1000D"]).tolist()
    assert read == [PADDING, UNKNOWN, 2, 3, 4, 5]


def test_words_and_truth_values_are_found_by_their_names():
    words = WordReader({"b": 2, "a": 3})
    assert _table(words, ["a", "b", "c"]).tolist() == [PADDING, UNKNOWN, 3, 2, UNKNOWN]
    assert _table(BooleanReader(("true",)), ["", "false", "true"]).tolist() == [0, 1, 1, 1, 2]
