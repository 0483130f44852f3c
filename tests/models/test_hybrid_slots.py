"""Slots by content and hash in one, and what every kind that is a sum over events has in common."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.schema import PADDING
from models.sequence.hybrid_slots import HybridSlots
from models.sequence.slots import Slots, slot_means
from tests.models.test_hash_slots import NUM_ITEMS, hash_slots, histories, read_own, signed_slots
from tests.models.test_slots import D, content_slots, fill, hard_slots


def hybrid_slots() -> HybridSlots:
    return HybridSlots(content_slots(), hash_slots())


@given(history=histories)
def test_hybrid_slots_are_the_content_rows_and_then_the_hash_rows(history):
    slots = hybrid_slots()
    state, content, hashed = (fill(part, history) for part in (slots, slots.content, slots.hashed))
    assert torch.equal(state["e_comp"], hashed["e_comp"])
    for name in ("e_auxabsorb", "counts"):
        assert state[name].shape[1] == slots.rank == 4 + 8
        assert torch.equal(state[name][:, :4], content[name])
        assert torch.equal(state[name][:, 4:], hashed[name])


def test_a_candidate_reads_the_hash_rows_of_hybrid_slots_alone():
    slots, history, rows = hybrid_slots(), [5, 5, 17, 1, 0, 30], torch.arange(NUM_ITEMS)
    state = fill(slots, history)
    expected = read_own(slots.hashed, fill(slots.hashed, history), rows)
    for name in ("e_auxabsorb", "counts"):
        state[name][:, : slots.content.rank] = 1e3
    for got, part in zip(read_own(slots, state, rows), expected, strict=True):
        assert torch.equal(got, part)
    assert slots.own_dims(D) == slots.hashed.own_dims(D)


# Every kind that is a sum over events

each_sum = pytest.mark.parametrize(
    "make", [content_slots, hard_slots, hash_slots, signed_slots, hybrid_slots]
)


@each_sum
@given(old=histories, new=histories, order=st.randoms(use_true_random=False))
def test_a_state_is_a_sum_over_events_in_any_order(make: Callable[[], Slots], old, new, order):
    slots = make()
    first, second, together = fill(slots, old), fill(slots, new), fill(slots, old + new)
    mixed = old + new
    order.shuffle(mixed)
    shuffled = fill(slots, mixed)
    for name, tensor in together.items():
        torch.testing.assert_close(first[name] + second[name], tensor)
        torch.testing.assert_close(shuffled[name], tensor)


@each_sum
@given(history=histories, zeros=st.integers(0, 9))
def test_padding_adds_nothing(make: Callable[[], Slots], history, zeros):
    slots = make()
    plain = fill(slots, history)
    for age in (0, 1):  # whatever is said of its age
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
