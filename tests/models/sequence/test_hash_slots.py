"""Slots by hash, against loops, and the documented bounds of their counts."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.contract.age import NUM_AGES, age_buckets
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.sequence.hash_slots import HashSlots, allot
from tests.models.sequence.folded import (
    FAMILIES,
    NUM_ITEMS,
    D,
    aged_histories,
    catalogue,
    embed,
    fill,
    hash_slots,
    histories,
    read_own,
)
from tests.reference.hashing import deal_slots, fold, mix, most_frequent, own, weight_of


def counts_of(slots: HashSlots, history: list[int], candidates: Sequence[int]) -> Tensor:
    """Count of each candidate, from the table of the first family."""
    _, scalars = read_own(slots, fill(slots, history), torch.tensor(candidates))
    return torch.expm1(scalars[:, 0]).round(decimals=6)


def slots_of(slots: HashSlots, m: int) -> dict[int, int]:
    """Key -> slot of family m."""
    first, size = first_key(slots, m), slots.families[m].size
    return dict(enumerate(slots.get_buffer("slot_of_key")[first : first + size].tolist()))


def first_key(slots: HashSlots, m: int) -> int:
    """Number of the first key of family m."""
    return sum(family.size for family in slots.families[:m])


# Number of slots of each family


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    spare=st.integers(0, 200),
    width=st.integers(1, 40),
)
def test_slots_are_shared_equally_after_small_families_are_served(sizes, spare, width):
    rank = len(sizes) + spare
    slots = allot(sizes, rank, width)
    assert slots == deal_slots(sizes, rank, width)
    assert sum(slots) == rank
    assert min(slots) >= 1
    exact = [-(-size // width) for size in sizes]
    fair = rank // len(sizes)
    assert all(n >= min(fair, needed) for n, needed in zip(slots, exact, strict=True))
    if sum(exact) <= rank:
        assert all(n >= needed for n, needed in zip(slots, exact, strict=True))


@pytest.mark.parametrize(
    ("sizes", "rank", "expected"),
    [
        ((30_000, 25, 6), 128, [124, 3, 1]),
        ((6, 30_000, 25), 128, [1, 124, 3]),
        ((30_000, 2_000, 25), 128, [63, 62, 3]),
        ((25, 6), 128, [127, 1]),
        ((30_000, 2_000, 25), 3, [1, 1, 1]),
    ],
)
def test_small_families_hold_all_their_keys_and_large_ones_share_the_rest(
    sizes, rank: int, expected
):
    assert allot(sizes, rank, 10) == expected


def test_fewer_slots_than_families_are_refused():
    with pytest.raises(ValueError, match="rank: got 2, expected at least one slot for 3 families"):
        allot([9, 9, 9], 2, 10)


# Sums, counts and tables


@pytest.mark.parametrize(("width", "half_life_days"), [(2, 0.0), (4, 0.0), (40, 3000.0)])
@given(history=aged_histories)
def test_hash_slots_equal_loops(width: int, half_life_days: float, history):
    slots = hash_slots(width, half_life_days=half_life_days)
    state = fill(slots, [row for row, _ in history], [age for _, age in history])
    sums, counts = np.zeros((slots.rank, D)), np.zeros(slots.rank)
    tables: dict[int, list[tuple[int, float]]] = {}
    for m, keys in enumerate(catalogue().T.tolist()):
        events = [
            (keys[row], weight_of(age, half_life_days), embed(torch.tensor(row)).tolist())
            for row, age in history
        ]
        slot_of = slots_of(slots, m)
        part, number, seen = fold(events, slot_of, slots.rank, D)
        sums, counts = sums + np.array(part), counts + np.array(number)
        for slot, table in most_frequent(seen, slot_of, width).items():
            tables[slot] = [(first_key(slots, m) + key, count) for key, count in table]
    np.testing.assert_allclose(state["e_auxabsorb"][0], sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state["counts"][0], counts, rtol=1e-5, atol=1e-5)
    for slot in range(slots.rank):
        kept = state["e_comp"][0, slot] > 0
        counted = zip(
            state["counted_keys"][0, slot][kept].tolist(),
            state["e_comp"][0, slot][kept].tolist(),
            strict=True,
        )
        assert dict(counted) == pytest.approx(dict(tables.get(slot, [])), rel=1e-4)
        assert not state["counted_keys"][0, slot][~kept].any()


def test_a_candidate_reads_its_own_slots():
    """Means of all families first, then each family's scalars."""
    slots, candidates = hash_slots(), [5, 6, 30, 1, 0, *range(10, 20)]
    history = [5, 5, 17, 1, 0, 30, *range(20, 40)]
    state = fill(slots, history)
    vectors, scalars = read_own(slots, state, torch.tensor(candidates))
    assert (vectors.shape[-1], scalars.shape[-1]) == slots.own_dims(D) == (2 * D, 2 * 3)
    for place, row in enumerate(candidates):
        means, expected = [], []
        for m, keys in enumerate(catalogue().T.tolist()):
            slot_of = slots_of(slots, m)
            _, _, seen = fold([(keys[r], 1.0, [0.0] * D) for r in history], slot_of, slots.rank, D)
            kept = dict(most_frequent(seen, slot_of, slots.width).get(slot_of[keys[row]], []))
            slot = slot_of[keys[row]]
            total, load = state["e_auxabsorb"][0, slot].tolist(), float(state["counts"][0, slot])
            mean, three = own(
                total, load, kept.get(keys[row], 0.0), embed(torch.tensor(row)).tolist()
            )
            means += mean
            expected += three
        np.testing.assert_allclose(vectors[place], means, rtol=1e-6)
        np.testing.assert_allclose(scalars[place], expected, rtol=1e-6)


def test_neither_padding_nor_unknown_items_are_counted():
    slots = hash_slots()
    state = fill(slots, [PADDING, UNKNOWN, UNKNOWN])
    assert not state["e_comp"].any()
    assert not state["counted_keys"].any()
    assert state["counts"].sum() == 2 * len(FAMILIES)
    assert not counts_of(slots, [UNKNOWN, *range(2, 40)], range(UNKNOWN + 1)).any()


# How exact counts are


@given(history=histories)
def test_no_count_is_too_high_and_only_the_rarest_keys_are_lost(history):
    slots = hash_slots(width=2)
    known = range(FIRST_KNOWN, NUM_ITEMS)
    slot_of = slots_of(slots, 0)
    true = {row: history.count(row) for row in known}
    read = dict(zip(known, counts_of(slots, history, known).tolist(), strict=True))
    for row in known:
        assert read[row] in (0, true[row])
        if read[row] < true[row]:
            kept = [other for other in known if slot_of[other] == slot_of[row] and read[other]]
            assert len(kept) == slots.width
            assert min(true[other] for other in kept) >= true[row]


@pytest.mark.parametrize("width", [8, 30])
@given(history=histories)
def test_counts_are_exact_where_there_is_room(width: int, history):
    """5 slots of 8 have room for all 40 items; one slot of 30 has room for any history of 30 events."""
    slots = hash_slots(width, families=((-1, 5 if width == 8 else 1), (1, 3)))
    known = range(FIRST_KNOWN, NUM_ITEMS)
    assert counts_of(slots, history, known).tolist() == [history.count(row) for row in known]


def test_a_family_with_room_for_every_key_spreads_them_evenly():
    slots = hash_slots(width=8, families=((1, 2), (-1, 5)))
    assert list(slots_of(slots, 1).values()) == [2 + key // 8 for key in range(NUM_ITEMS)]
    hashed = hash_slots(width=13, families=((-1, 3),))
    assert list(slots_of(hashed, 0).values()) != [key * 3 // NUM_ITEMS for key in range(NUM_ITEMS)]


def test_slots_overflow_as_rarely_as_documented():
    """With Poisson(n/R) keys per slot: the share of lost keys, of 900 in 53 rows of 17, within a fifth."""
    lost = []
    for seed in range(5):
        slots = hash_slots(17, ((-1, 53),), num_items=10_000)
        chosen = np.random.default_rng(seed).choice(np.arange(FIRST_KNOWN, 10_000), 900, False)
        lost.append(
            (counts_of(slots, chosen.tolist(), chosen.tolist()) == 0).double().mean().item()
        )
    mean = 900 / 53
    chance = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(80)]
    expected = sum(p * max(n - 17, 0) for n, p in enumerate(chance)) / mean
    assert np.mean(lost) == pytest.approx(expected, rel=0.2)


# Ages


@pytest.mark.parametrize("half_life_days", [0.0, 0.5, 30.0])
def test_events_are_weighed_by_their_age(half_life_days: float):
    slots = hash_slots(half_life_days=half_life_days)
    for age in range(NUM_AGES):
        counts = fill(slots, [5], [age])["counts"].sum().item()
        expected = len(FAMILIES) * weight_of(age, half_life_days)
        assert counts == pytest.approx(expected, rel=1e-4)


def test_an_event_counts_half_after_a_half_life():
    """Within a fifth, since there are two age buckets per octave."""
    slots, day_s = hash_slots(families=((-1, 5),), half_life_days=10.0), 86_400
    for half_lives in (0, 1, 2, 20):
        (age,) = age_buckets(np.array([half_lives * 10 * day_s]))
        count = fill(slots, [5], [int(age)])["counts"].sum().item()
        assert 0.5 ** (1.2 * half_lives) * 0.999 <= count <= 0.5 ** (half_lives / 1.2)


# Hashes


def test_a_rebuilt_model_has_the_same_hashes_and_families_differ():
    first, again = hash_slots(), hash_slots()
    for name, buffer in first.named_buffers():
        assert torch.equal(buffer, again.get_buffer(name))
    twice = hash_slots(families=((0, 5), (0, 5)))
    assert list(slots_of(twice, 0).values()) != [slot - 5 for slot in slots_of(twice, 1).values()]


def test_hashes_are_splitmix64():
    """Records hold tables by slot: with another hash, candidates would read the wrong slots."""
    families, offset = ((0, 5), (-1, 3)), 0
    slots = hash_slots(families=families)
    for m, (_, num_slots) in enumerate(families):
        expected = [mix(key, seed=1 + m) % num_slots + offset for key in range(NUM_ITEMS)]
        assert list(slots_of(slots, m).values()) == expected
        offset += num_slots


def test_a_key_keeps_its_slot_when_the_catalogue_grows():
    small, large = hash_slots(), hash_slots(num_items=2 * NUM_ITEMS)
    assert slots_of(small, 0).items() <= slots_of(large, 0).items()


def test_families_have_separate_slots():
    slots = hash_slots(families=((-1, 5), (0, 3)), num_items=4000)
    assert set(slots_of(slots, 0).values()) == set(range(5))
    assert set(slots_of(slots, 1).values()) == set(range(5, 8))


def test_keys_spread_evenly_over_slots():
    slots = hash_slots(families=((-1, 64),), num_items=10_000)
    load = torch.bincount(slots.get_buffer("slot_of_key").long(), minlength=64).double()
    expected = 10_000 / 64
    chi_square = ((load - expected).square() / expected).sum().item()
    assert chi_square < 63 + 4 * (2 * 63) ** 0.5
