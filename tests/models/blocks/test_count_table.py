"""Tables of how often keys occur, against a dictionary."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.blocks.count_table import count_keys
from tests.reference.hashing import most_frequent

ROWS, LENGTH = 3, 12
events = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    min_size=LENGTH,
    max_size=LENGTH,
)


@given(users=st.lists(events, min_size=1, max_size=3), width=st.integers(1, 12))
def test_a_table_holds_its_rows_most_frequent_keys_in_descending_order(users, width):
    key = torch.tensor([[k for k, _ in user] for user in users])
    weight = torch.tensor([[w for _, w in user] for user in users])
    sums, keys = count_keys(key, weight, key % ROWS, rows=ROWS, width=width)
    for b, user in enumerate(users):
        seen = {k: sum(w for other, w in user if other == k) for k, _ in user}
        tables = most_frequent(seen, {k: k % ROWS for k in seen}, width)
        for row in range(ROWS):
            expected = tables.get(row, [])
            padded = [*expected, *[(0, 0.0)] * (width - len(expected))]
            assert list(zip(keys[b, row].tolist(), sums[b, row].tolist(), strict=True)) == padded


def test_a_long_history_keeps_its_order_by_frequency():
    """One key has one event more of 10,000: divided by the total, both counts are equal in float32."""
    key = torch.cat([torch.full((5000,), 7), torch.full((5001,), 8)])[None]
    sums, keys = count_keys(key, torch.ones(1, 10_001), torch.zeros_like(key), rows=1, width=1)
    assert (keys.item(), sums.item()) == (8, 5001)


def test_an_empty_history_has_an_empty_table():
    none = torch.zeros(2, 0, dtype=torch.int64)
    sums, keys = count_keys(none, torch.zeros(2, 0), none, rows=2, width=3)
    assert (sums.shape, keys.shape) == ((2, 2, 3), (2, 2, 3))
    assert not sums.any()
    assert not keys.any()
