"""Counts: exact ones, the item table and the sketch, against Python's own counting."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.blocks.lookup import matching
from models.blocks.lookup.matching import match_keys
from models.blocks.reading import Candidates, Events, Read
from models.contract.age import NUM_AGES
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.readers.base import Reader
from models.readers.counts import CountReader
from models.readers.item_table import ItemTableReader
from models.readers.sketch import SketchReader
from tests.models.readers.arrange import read, settled

NUM_ITEMS, NUM_CATEGORIES, LENGTH = 40, 6, 30
aged = st.lists(
    st.tuples(st.integers(UNKNOWN, NUM_ITEMS - 1), st.integers(1, NUM_AGES - 1)), max_size=LENGTH
)


def fields() -> Tensor:
    """Item id and category of each row; rare items share the unknown id; one item has no category."""
    rows = torch.arange(NUM_ITEMS)
    ids = torch.where(rows > 30, UNKNOWN, rows)
    categories = torch.where(rows < FIRST_KNOWN, rows, FIRST_KNOWN + rows % NUM_CATEGORIES)
    categories[5] = UNKNOWN
    return torch.stack([ids, categories], 1)


KEYS = match_keys(fields(), (0, 1))
EVERY = torch.arange(NUM_ITEMS)


def vectors(rows: Tensor) -> Tensor:
    return torch.zeros(*rows.shape, 3, dtype=torch.float64)


def events_of(*histories: list[tuple[int, int]]) -> Events:
    """Histories, right-aligned."""
    rows, ages = torch.zeros(2, len(histories), LENGTH, dtype=torch.int64)
    for user, history in enumerate(histories):
        for back, (row, age) in enumerate(reversed(history), 1):
            rows[user, -back], ages[user, -back] = row, age
    return Events(rows, ages, vectors)


def ask(reader: Reader, history: list[tuple[int, int]]) -> Read:
    """Masses of every catalogue row."""
    return read(reader, events_of(history), Candidates(EVERY[None], vectors(EVERY[None])))


def expected(reader: Reader, history: list[tuple[int, int]], key: int) -> list[float]:
    """Σ g(age) over the events with each row's key."""
    worth = reader.ages(torch.arange(NUM_AGES)[None])[0, :, key].tolist()  # type: ignore[operator]
    total: Counter[int] = Counter()
    for row, age in history:
        total[int(KEYS[row, key])] += worth[age]
    return [total[k] if k else 0.0 for k in KEYS[:, key].tolist()]


def latest(reader: Reader, history: list[tuple[int, int]]) -> list[float]:
    """The learned number of the age of each row's latest event."""
    ages = dict(history)  # of equal rows the last stays
    value = reader.latest(torch.arange(NUM_AGES)[None])[0, :, 0].tolist()  # type: ignore[operator]
    return [value[ages[row]] if row in ages and row > UNKNOWN else 0.0 for row in EVERY.tolist()]


def ordered(history: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As time orders them: ages fall."""
    return sorted(history, key=lambda event: -event[1])


def close(got: Tensor, values: list[float]) -> None:
    torch.testing.assert_close(got, torch.tensor(values, dtype=got.dtype))


@given(aged)
@pytest.mark.parametrize("dense", [1, 1 << 17])
def test_exact_counts_equal_counting(dense: int, history):
    history = ordered(history)
    reader = settled(CountReader(LENGTH, KEYS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE", dense)
        mass = ask(reader, history).mass[0]
    for key in (0, 1):
        close(mass[:, key], expected(reader, history, key))
    close(mass[:, 2], latest(reader, history))


@given(aged)
def test_a_table_with_room_for_all_items_equals_exact_counts(history):
    history = ordered(history)
    reader = settled(ItemTableReader(LENGTH, LENGTH, NUM_ITEMS))
    mass = ask(reader, history).mass[0]
    close(mass[:, 0], expected(reader, history, 0))
    close(mass[:, 1], latest(reader, history))


@given(aged)
def test_a_full_table_keeps_the_largest_sums_and_drops_the_others(history):
    history = ordered(history)
    reader = settled(ItemTableReader(LENGTH, 4, NUM_ITEMS))
    mass = ask(reader, history).mass[0, :, 0]
    exact = torch.tensor(expected(reader, history, 0), dtype=mass.dtype)
    kept = mass > 0
    assert kept.sum() == min(4, (exact > 0).sum())
    torch.testing.assert_close(mass[kept], exact[kept])
    if kept.any():
        assert exact[~kept].max() <= exact[kept].min() + 0.02


def test_of_equal_sums_a_table_keeps_the_items_seen_last():
    reader = ItemTableReader(LENGTH, 2, NUM_ITEMS)
    mass = ask(reader, [(7, 9), (8, 9), (9, 9), (3, 9)]).mass[0, :, 0]
    assert mass.nonzero().flatten().tolist() == [3, 9]


@given(aged)
def test_a_sketch_is_never_below_the_count_and_exact_where_a_field_has_few_values(history):
    reader = settled(SketchReader(KEYS, cells=5))
    mass = ask(reader, history).mass[0]
    assert reader.columns == [0, 0, 1]
    exact = torch.tensor(expected(reader, history, 0), dtype=mass.dtype)
    assert (mass[FIRST_KNOWN:, 0] >= exact[FIRST_KNOWN:] - 1e-9).all()
    close(mass[:, 1], expected(reader, history, 1))


def test_a_wide_sketch_is_nearly_exact():
    reader = SketchReader(KEYS[:, :1], cells=15)
    history = [(row, 3) for row in range(FIRST_KNOWN, 12) for _ in range(row)]
    mass = ask(reader, history[:LENGTH]).mass[0, :, 0]
    exact = torch.tensor(expected(reader, history[:LENGTH], 0))
    assert (mass == exact).float().mean() > 0.7


def test_a_state_adds_up():
    """A new event adds to the cells, and to its item's sum."""
    one, two = [(3, 5), (4, 5)], [(3, 5), (9, 5)]
    sketch = settled(SketchReader(KEYS, cells=5))
    states = [sketch.encode(events_of(h))["sketch"] for h in (one, two, one + two)]
    torch.testing.assert_close(states[0] + states[1], states[2])


def test_padding_and_unknown_items_match_nothing():
    for reader in (CountReader(LENGTH, KEYS), ItemTableReader(LENGTH, 9, NUM_ITEMS)):
        mass = ask(reader, [(UNKNOWN, 4), (5, 4)]).mass[0]
        assert not mass[[PADDING, UNKNOWN]].any()
        assert mass[5].any()


def test_a_table_entry_holds_row_age_and_sum():
    state = ItemTableReader(LENGTH, 3, NUM_ITEMS).encode(events_of([(8, 9), (7, 8), (8, 6)]))
    assert state["table_items"].tolist() == [[8 * NUM_AGES + 6, 7 * NUM_AGES + 8, 0]]
    assert state["table_sums"].tolist() == [[2.0, 1.0, 0.0]]
