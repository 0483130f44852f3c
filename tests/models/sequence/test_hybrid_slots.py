"""Hybrid slots, and what all slots that are sums over events have in common."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.base import UserState
from models.contract.schema import PADDING
from models.sequence.hybrid_slots import HybridSlots
from models.sequence.slots import Slots, slot_means
from tests.models.sequence.folded import (
    NUM_ITEMS,
    D,
    content_slots,
    fill,
    hard_slots,
    hash_slots,
    histories,
    read_own,
    roomy_slots,
)


def hybrid_slots() -> HybridSlots:
    return HybridSlots(content_slots(), hash_slots())


def roomy_hybrid_slots() -> HybridSlots:
    return HybridSlots(content_slots(), roomy_slots())


def dense(state: UserState) -> UserState:
    """The tables of counts as one count per key, whatever its cell."""
    if "counted_keys" not in state:
        return state
    tally = torch.zeros(NUM_ITEMS * 2, dtype=state["e_comp"].dtype)
    tally.index_add_(0, state["counted_keys"].flatten(), state["e_comp"].flatten())
    rest = {name: tensor for name, tensor in state.items() if name != "counted_keys"}
    return {**rest, "e_comp": tally}


@given(history=histories)
def test_hybrid_slots_are_content_rows_then_hash_rows(history):
    slots = hybrid_slots()
    state, content, hashed = (fill(part, history) for part in (slots, slots.content, slots.hashed))
    for name in ("e_comp", "counted_keys"):
        assert torch.equal(state[name], hashed[name])
    for name in ("e_auxabsorb", "counts"):
        assert state[name].shape[1] == slots.rank == 4 + 8
        assert torch.equal(state[name][:, :4], content[name])
        assert torch.equal(state[name][:, 4:], hashed[name])


def test_a_candidate_reads_only_the_hash_rows_of_hybrid_slots():
    slots, history, rows = hybrid_slots(), [5, 5, 17, 1, 0, 30], torch.arange(NUM_ITEMS)
    state = fill(slots, history)
    expected = read_own(slots.hashed, fill(slots.hashed, history), rows)
    for name in ("e_auxabsorb", "counts"):
        state[name][:, : slots.content.rank] = 1e3
    for got, part in zip(read_own(slots, state, rows), expected, strict=True):
        assert torch.equal(got, part)
    assert slots.own_dims(D) == slots.hashed.own_dims(D)


# All slots that are sums over events

short = histories.map(lambda rows: rows[:15])
"""Two such histories fit into a table of 30."""
each_sum = pytest.mark.parametrize(
    "make", [content_slots, hard_slots, roomy_slots, roomy_hybrid_slots]
)


@each_sum
@given(old=short, new=short, order=st.randoms(use_true_random=False))
def test_a_state_is_a_sum_over_events_in_any_order(make: Callable[[], Slots], old, new, order):
    slots = make()
    first, second, together = (dense(fill(slots, part)) for part in (old, new, old + new))
    mixed = old + new
    order.shuffle(mixed)
    shuffled = dense(fill(slots, mixed))
    for name, tensor in together.items():
        torch.testing.assert_close(first[name] + second[name], tensor)
        torch.testing.assert_close(shuffled[name], tensor)


@each_sum
@given(history=histories, zeros=st.integers(0, 9))
def test_padding_adds_nothing(make: Callable[[], Slots], history, zeros):
    slots = make()
    plain = fill(slots, history)
    for age in (0, 1):  # the age of padding must not matter
        ages = [age] * zeros + [1 if row else age for row in history]
        padded = fill(slots, [PADDING] * zeros + history, ages)
        for name, tensor in plain.items():
            torch.testing.assert_close(padded[name], tensor)


@each_sum
def test_keys_are_the_means_of_their_slots_and_zero_where_empty(make: Callable[[], Slots]):
    slots = make()
    state = fill(slots, [5, 5, 5, 9])
    keys = slots.keys(state)
    assert torch.equal(keys, slot_means(state))
    full = state["counts"] > 0.5
    means = state["e_auxabsorb"][full] / state["counts"][full][:, None]
    torch.testing.assert_close(keys[full], means, rtol=2e-3, atol=0)
    assert not slots.keys(fill(slots, [])).any()
