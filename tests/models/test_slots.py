"""Slots: what each kind keeps of a history, against loops, and what can be promised of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.base import UserState
from models.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.sequence.slots import NUM_HASHES, ContentSlots, HashSlots, PositionSlots, slot_means
from tests.reference.attention import auxiliary, compress
from tests.reference.hashing import fold, mix, own

NUM_ITEMS, D = 40, 3
FAMILIES = ((-1, 5), (1, 3))
histories = st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30)


def catalogue(num_items: int = NUM_ITEMS) -> Tensor:
    """Item id and category; the two reserved rows first."""
    rows = torch.arange(num_items)
    return torch.stack([rows, torch.where(rows < FIRST_KNOWN, rows, FIRST_KNOWN + rows % 6)], 1)


TABLE = torch.randn(10_000, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TABLE[PADDING] = 0


def embed(rows: Tensor) -> Tensor:
    return TABLE[rows]


def hash_slots(width: int = 4, families=FAMILIES, num_items: int = NUM_ITEMS) -> HashSlots:
    return HashSlots(catalogue(num_items), families=families, width=width)


def content_slots(rank: int = 4) -> ContentSlots:
    torch.manual_seed(0)
    return ContentSlots(dim=D, rank=rank).double()


def fill(slots: HashSlots | ContentSlots, history: list[int]) -> UserState:
    """State of one user."""
    rows = torch.tensor([history], dtype=torch.int64).view(1, -1)
    return slots.encode(rows, embed(rows))


def counts_of(slots: HashSlots, history: list[int], candidates: range) -> Tensor:
    """How often the sketch of the first family says that each candidate occurs."""
    rows = torch.tensor([list(candidates)])
    read = slots.own(fill(slots, history), rows, embed(rows))
    return torch.expm1(read[0, :, D]).round(decimals=6)


# Position


@pytest.mark.parametrize(("length", "rank"), [(12, 4), (10, 4), (7, 7), (9, 1)])
def test_block_slots_are_the_mean_and_the_sum_of_their_block(length: int, rank: int):
    slots = PositionSlots(length=length, rank=rank, decompression="free", init="block").double()
    rows = torch.arange(1, length + 1)[None]
    events = embed(rows)
    state = slots.encode(rows, events)
    owner = [place * rank // length for place in range(length)]
    for k in range(rank):
        block = events[0, [place for place in range(length) if owner[place] == k]]
        torch.testing.assert_close(state["e_auxabsorb"][0, k], block.sum(0))
        torch.testing.assert_close(state["e_comp"][0, k], block.mean(0))


def test_gaussian_slots_have_the_documented_spread():
    torch.manual_seed(0)
    slots = PositionSlots(length=400, rank=50, decompression="free", init="gaussian")
    for weight, std in ((slots.w_comp, 400**-0.5), (slots.w_decomp, 50**-0.5)):
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 0.03 * std


@pytest.mark.parametrize("init", ["block", "gaussian"])
def test_softmax_columns_are_shares(init):
    torch.manual_seed(0)
    slots = PositionSlots(length=60, rank=12, decompression="softmax", init=init)
    assert (slots.w_decomp >= 0).all()
    torch.testing.assert_close(slots.w_decomp.sum(0), torch.ones(60))
    if init == "block":
        owner = torch.arange(60) * 12 // 60
        assert (slots.w_decomp[owner, torch.arange(60)] > 0.99).all()


@pytest.mark.parametrize("decompression", ["free", "softmax"])
def test_position_slots_are_two_matrix_products(decompression):
    torch.manual_seed(0)
    slots = PositionSlots(length=6, rank=4, decompression=decompression, init="gaussian").double()
    rows = torch.arange(1, 13).view(2, 6)
    state = slots.encode(rows, embed(rows))
    for user in range(2):
        events = embed(rows)[user].tolist()
        keys = torch.tensor(compress(events, slots.w_comp.tolist()), dtype=torch.float64)
        values = torch.tensor(auxiliary(events, slots.w_decomp.tolist()), dtype=torch.float64)
        torch.testing.assert_close(state["e_comp"][user], keys)
        torch.testing.assert_close(state["e_auxabsorb"][user], values)


# Content


def test_content_weights_are_shares_of_each_event():
    slots = content_slots()
    state = fill(slots, [5, 0, 7, 7])
    assert state["counts"].sum().item() == pytest.approx(3)
    torch.testing.assert_close(
        state["e_auxabsorb"].sum(1), embed(torch.tensor([[5, 0, 7, 7]])).sum(1)
    )


def test_content_slots_are_the_equation():
    slots, history = content_slots(), [5, 9, 0, 7]
    state = fill(slots, history)
    sums, counts = np.zeros((4, D)), np.zeros(4)
    prototypes, bias = slots.prototypes.weight.tolist(), slots.prototypes.bias.tolist()
    for row in filter(None, history):
        event = embed(torch.tensor(row)).numpy()
        logits = [float(np.dot(prototypes[k], event)) + bias[k] for k in range(4)]
        total = sum(np.exp(logit) for logit in logits)
        for k in range(4):
            counts[k] += np.exp(logits[k]) / total
            sums[k] += np.exp(logits[k]) / total * event
    np.testing.assert_allclose(state["e_auxabsorb"][0].detach(), sums)
    np.testing.assert_allclose(state["counts"][0].detach(), counts)


def test_prototypes_start_long_so_that_slots_specialise():
    torch.manual_seed(0)
    slots = ContentSlots(dim=16, rank=32)
    torch.testing.assert_close(slots.prototypes.weight.norm(dim=1), torch.full((32,), 6.0))
    assert not slots.prototypes.bias.any()


# Both kinds that are sums over events


@pytest.mark.parametrize("make", [content_slots, hash_slots])
@given(old=histories, new=histories, order=st.randoms(use_true_random=False))
def test_a_state_is_a_sum_over_events_in_any_order(make, old, new, order):
    slots = make()
    first, second, together = fill(slots, old), fill(slots, new), fill(slots, old + new)
    mixed = old + new
    order.shuffle(mixed)
    shuffled = fill(slots, mixed)
    for name, tensor in together.items():
        torch.testing.assert_close(first[name] + second[name], tensor)
        torch.testing.assert_close(shuffled[name], tensor)


@pytest.mark.parametrize("make", [content_slots, hash_slots])
@given(history=histories, zeros=st.integers(0, 9))
def test_padding_adds_nothing(make, history, zeros):
    slots = make()
    plain, padded = fill(slots, history), fill(slots, [PADDING] * zeros + history)
    for name, tensor in plain.items():
        torch.testing.assert_close(padded[name], tensor)


@pytest.mark.parametrize("make", [content_slots, hash_slots])
def test_keys_are_the_means_of_their_slots_and_zero_where_empty(make):
    slots = make()
    state = fill(slots, [5, 5, 5, 9])
    keys = slots.keys(state)
    assert torch.equal(keys, slot_means(state))
    full = state["counts"] > 0.5
    means = state["e_auxabsorb"][full] / state["counts"][full][:, None]
    torch.testing.assert_close(keys[full], means, rtol=2e-3, atol=0)
    assert not slots.keys(fill(slots, [])).any()


# Hash


def tables(slots: HashSlots, family: int) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Key -> slot, and key -> cells."""
    slot, cell = (slots.get_buffer(f"{name}_{family}").tolist() for name in ("slot", "cell"))
    return dict(enumerate(slot)), dict(enumerate(cell))


@given(history=histories)
def test_hash_slots_fold_as_the_loops_do(history):
    slots = hash_slots()
    state, width = fill(slots, history), slots.width
    sums, counts = np.zeros((slots.rank, D)), np.zeros(slots.rank)
    cells = np.zeros(slots.rank * width)
    keys = [catalogue()[:, 0], catalogue()[:, 1]]
    for family in range(len(FAMILIES)):
        events = [(int(keys[family][row]), embed(torch.tensor(row)).tolist()) for row in history]
        parts = fold(events, *tables(slots, family), slots.rank, len(cells), D)
        sums, counts, cells = (
            whole + np.array(part) for whole, part in zip((sums, counts, cells), parts, strict=True)
        )
    np.testing.assert_allclose(state["e_auxabsorb"][0], sums, atol=1e-12)
    np.testing.assert_array_equal(state["counts"][0], counts)
    np.testing.assert_array_equal(state["e_comp"][0].flatten(), cells)


def test_a_candidate_reads_its_own_slots():
    slots, history = hash_slots(), [5, 5, 17, 1, 0, 30]
    state, rows = fill(slots, history), torch.tensor([[5, 6, 1, 0]])
    read = slots.own(state, rows, embed(rows))
    assert read.shape == (1, 4, slots.own_dim(D))
    keys = [catalogue()[:, 0], catalogue()[:, 1]]
    for place, row in enumerate(rows[0].tolist()):
        expected: list[float] = []
        for family in range(len(FAMILIES)):
            slot_of, cells_of = tables(slots, family)
            key = int(keys[family][row])
            slot = slot_of[key]
            cells = [float(state["e_comp"].flatten()[cell]) for cell in cells_of[key]]
            total, load = state["e_auxabsorb"][0, slot].tolist(), float(state["counts"][0, slot])
            expected += own(total, load, cells, key, embed(torch.tensor(row)).tolist())
        np.testing.assert_allclose(read[0, place], expected, rtol=1e-6)


@given(history=histories)
def test_a_count_is_never_below_the_truth(history):
    counts = counts_of(hash_slots(), history, range(FIRST_KNOWN, NUM_ITEMS))
    true = torch.tensor([history.count(row) for row in range(FIRST_KNOWN, NUM_ITEMS)])
    assert (counts >= true).all()


@given(history=histories)
def test_counts_are_exact_where_nothing_collides(history):
    slots = hash_slots(width=1000)
    counts = counts_of(slots, history, range(FIRST_KNOWN, NUM_ITEMS))
    true = [history.count(row) for row in range(FIRST_KNOWN, NUM_ITEMS)]
    assert counts.tolist() == true


def test_neither_padding_nor_unknown_items_are_counted():
    slots = hash_slots()
    state = fill(slots, [PADDING, UNKNOWN, UNKNOWN])
    assert not state["e_comp"].any()
    assert state["counts"].sum() == 2 * len(FAMILIES)
    assert not counts_of(slots, [UNKNOWN, 5], range(UNKNOWN + 1)).any()


@pytest.mark.parametrize(("num_keys", "num_cells"), [(250, 4096), (500, 2048), (1000, 2048)])
def test_counts_are_too_high_as_rarely_as_documented(num_keys: int, num_cells: int):
    """(1 − e^(−4n/c))⁴, over 3,000 keys that do not occur, within four standard errors of it."""
    absent = range(5000, 8000)
    slots = hash_slots(width=num_cells, families=((-1, 1),), num_items=8000)
    wrong = 0
    rounds = 4
    for seed in range(rounds):
        chosen = np.random.default_rng(seed).choice(np.arange(FIRST_KNOWN, 5000), num_keys, False)
        wrong += int((counts_of(slots, chosen.tolist(), absent) > 0.5).sum())
    num = rounds * len(absent)
    expected = (1 - np.exp(-NUM_HASHES * num_keys / num_cells)) ** 4
    assert abs(wrong / num - expected) < 4 * (expected / num) ** 0.5 + 0.2 * expected


def test_a_rebuilt_model_hashes_alike_and_families_do_not():
    first, again = hash_slots(), hash_slots()
    for name, buffer in first.named_buffers():
        assert torch.equal(buffer, again.get_buffer(name))
    twice = hash_slots(families=((0, 5), (0, 5)))
    assert not torch.equal(twice.get_buffer("slot_0"), twice.get_buffer("slot_1") - 5)


def test_hashes_are_splitmix64():
    """Records in a cache hold cells: another hash would read old counts wrongly."""
    slots, offset, width = hash_slots(), 0, 1 + NUM_HASHES
    for family, (_, num_slots) in enumerate(FAMILIES):
        slot_of, cells_of = tables(slots, family)
        for key in range(FIRST_KNOWN + 6):
            first, *rest = (mix(key * width + j, seed=1 + family) for j in range(width))
            assert slot_of[key] == first % num_slots + offset
            cells = [x % (num_slots * slots.width) + offset * slots.width for x in rest]
            assert cells_of[key] == cells
        offset += num_slots


def test_a_key_keeps_its_hash_when_the_catalogue_grows():
    small, large = hash_slots(), hash_slots(num_items=2 * NUM_ITEMS)
    for name in ("slot_0", "cell_0"):
        assert torch.equal(small.get_buffer(name), large.get_buffer(name)[:NUM_ITEMS])


def test_slots_and_cells_of_a_family_are_its_own_share():
    slots, width = hash_slots(num_items=4000), 4
    for family, (low, high) in enumerate(((0, 5), (5, 8))):
        slot, cell = (slots.get_buffer(f"{name}_{family}") for name in ("slot", "cell"))
        assert (int(slot.min()), int(slot.max()) + 1) == (low, high)
        assert cell.min() >= low * width
        assert cell.max() < high * width


def test_keys_spread_evenly_over_slots():
    slots = hash_slots(families=((-1, 64),), num_items=10_000)
    load = torch.bincount(slots.get_buffer("slot_0").long(), minlength=64).double()
    expected = 10_000 / 64
    chi_square = ((load - expected).square() / expected).sum().item()
    assert chi_square < 63 + 4 * (2 * 63) ** 0.5
