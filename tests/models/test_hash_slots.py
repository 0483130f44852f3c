"""Slots by hash: what they keep of a history, against loops, and what can be promised of it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.age import NUM_AGES, age_buckets
from models.base import UserState
from models.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.sequence.hash_slots import NUM_HASHES, Family, HashSlots, Sketch, allot
from models.sequence.slots import Slots
from tests.models.test_slots import D, embed, fill
from tests.reference.hashing import Cell, deal_slots, estimate, fold, mix, own, weight_of

NUM_ITEMS, NUM_CATEGORIES = 40, 6
FAMILIES = ((-1, 5), (1, 3))
"""In 4 cells a slot the items are a sketch, the categories exact."""
SKETCHES: tuple[Sketch, ...] = ("count_min", "signed")
each_sketch = pytest.mark.parametrize("sketch", SKETCHES)
histories = st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30)
aged_histories = st.lists(
    st.tuples(st.integers(0, NUM_ITEMS - 1), st.integers(1, NUM_AGES - 1)), max_size=30
)


def catalogue(num_items: int = NUM_ITEMS) -> Tensor:
    """Item id and category; the two reserved rows first."""
    rows = torch.arange(num_items)
    categories = torch.where(rows < FIRST_KNOWN, rows, FIRST_KNOWN + rows % NUM_CATEGORIES)
    return torch.stack([rows, categories], 1)


def hash_slots(
    width: int = 4,
    families: Sequence[tuple[int, int]] = FAMILIES,
    num_items: int = NUM_ITEMS,
    sketch: Sketch = "count_min",
    half_life_days: float = 0.0,
    seed: int = 1,
) -> HashSlots:
    """Families of (column, slots)."""
    sizes = {-1: num_items, 0: num_items, 1: FIRST_KNOWN + NUM_CATEGORIES}
    return HashSlots(
        catalogue(num_items), families=[Family(column, sizes[column], n) for column, n in families],
        width=width, sketch=sketch, half_life_days=half_life_days, seed=seed,
    )  # fmt: skip


def signed_slots() -> HashSlots:
    return hash_slots(sketch="signed")


def read_own(slots: Slots, state: UserState, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors and scalars of candidates of one user."""
    vectors, scalars = slots.own(state, rows[None], embed(rows[None]))
    return vectors[0], scalars[0]


def counts_of(slots: HashSlots, history: list[int], candidates: Sequence[int]) -> Tensor:
    """How often each candidate occurs, as its own cells of the first family tell."""
    _, scalars = read_own(slots, fill(slots, history), torch.tensor(candidates))
    return torch.expm1(scalars[:, 0]).round(decimals=6)


def tables(slots: HashSlots, m: int) -> tuple[dict[int, int], dict[int, list[Cell]]]:
    """Key -> slot, and key -> cells with their signs, of family m."""
    slot, cell, sign = (slots.get_buffer(f"{name}_{m}") for name in ("slot", "cell", "sign"))
    cells = torch.stack([cell, sign.expand_as(cell)], -1).tolist()
    return dict(enumerate(slot.tolist())), dict(enumerate([tuple(at) for at in c] for c in cells))


# Dealing slots out to families


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    spare=st.integers(0, 200),
    width=st.integers(1, 40),
)
def test_slots_are_dealt_out_fairly_and_first_to_whom_they_make_exact(sizes, spare, width):
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
def test_small_families_are_exact_and_large_ones_share_the_rest(sizes, rank: int, expected):
    assert allot(sizes, rank, 10) == expected


def test_fewer_slots_than_families_are_refused():
    with pytest.raises(ValueError, match="rank: got 2, expected at least one slot for 3 families"):
        allot([9, 9, 9], 2, 10)


# What is kept and what is read


@each_sketch
@pytest.mark.parametrize("half_life_days", [0.0, 3.0])
@given(history=aged_histories)
def test_hash_slots_fold_as_the_loops_do(sketch: Sketch, half_life_days: float, history):
    slots = hash_slots(sketch=sketch, half_life_days=half_life_days)
    state = fill(slots, [row for row, _ in history], [age for _, age in history])
    sums, counts = np.zeros((slots.rank, D)), np.zeros(slots.rank)
    cells = np.zeros(slots.rank * slots.width)
    for m, keys in enumerate(catalogue().T.tolist()):
        events = [
            (keys[row], weight_of(age, half_life_days), embed(torch.tensor(row)).tolist())
            for row, age in history
        ]
        parts = fold(events, *tables(slots, m), slots.rank, len(cells), D)
        sums, counts, cells = (
            whole + np.array(part) for whole, part in zip((sums, counts, cells), parts, strict=True)
        )
    np.testing.assert_allclose(state["e_auxabsorb"][0], sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state["counts"][0], counts, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state["e_comp"][0].flatten(), cells, rtol=1e-5, atol=1e-5)


@each_sketch
def test_a_candidate_reads_its_own_slots(sketch: Sketch):
    """Means of all families first, then each family's scalars."""
    slots, candidates = hash_slots(sketch=sketch), [5, 6, 30, 1, 0, *range(10, 20)]
    state = fill(slots, [5, 5, 17, 1, 0, 30, *range(20, 40)])
    vectors, scalars = read_own(slots, state, torch.tensor(candidates))
    assert (vectors.shape[-1], scalars.shape[-1]) == slots.own_dims(D) == (2 * D, 2 * 3)
    cells = state["e_comp"].flatten().tolist()
    for place, row in enumerate(candidates):
        means, expected = [], []
        for m, keys in enumerate(catalogue().T.tolist()):
            slot_of, cells_of = tables(slots, m)
            seen = estimate(keys[row], cells, cells_of[keys[row]], sketch)
            slot = slot_of[keys[row]]
            total, load = state["e_auxabsorb"][0, slot].tolist(), float(state["counts"][0, slot])
            mean, three = own(total, load, seen, embed(torch.tensor(row)).tolist())
            means += mean
            expected += three
        np.testing.assert_allclose(vectors[place], means, rtol=1e-6)
        np.testing.assert_allclose(scalars[place], expected, rtol=1e-6)


@each_sketch
def test_neither_padding_nor_unknown_items_are_counted(sketch: Sketch):
    slots = hash_slots(sketch=sketch)
    state = fill(slots, [PADDING, UNKNOWN, UNKNOWN])
    assert not state["e_comp"].any()
    assert state["counts"].sum() == 2 * len(FAMILIES)
    assert not counts_of(slots, [UNKNOWN, *range(2, 40)], range(UNKNOWN + 1)).any()


# Families that count exactly


@each_sketch
def test_a_family_with_a_cell_per_key_has_one_for_each(sketch: Sketch):
    """As many cells as keys are enough; with one cell fewer each key has `NUM_HASHES`."""
    exact = hash_slots(width=8, families=((1, 2), (-1, 5)), sketch=sketch)
    slot_of, cells_of = tables(exact, 1)
    assert [cells_of[key] for key in range(NUM_ITEMS)] == [[(16 + k, 1)] for k in range(NUM_ITEMS)]
    assert [slot_of[key] for key in range(NUM_ITEMS)] == [2 + k // 8 for k in range(NUM_ITEMS)]
    _, hashed = tables(hash_slots(width=13, families=((-1, 3),), sketch=sketch), 0)
    assert {len(cells) for cells in hashed.values()} == {NUM_HASHES}


@each_sketch
@given(history=histories)
def test_an_exact_family_counts_any_history_exactly(sketch: Sketch, history):
    slots = hash_slots(width=8, sketch=sketch)
    known = range(FIRST_KNOWN, NUM_ITEMS)
    assert counts_of(slots, history, known).tolist() == [history.count(row) for row in known]


# Sketches


@given(history=histories)
def test_a_count_is_never_below_the_truth(history):
    counts = counts_of(hash_slots(), history, range(FIRST_KNOWN, NUM_ITEMS))
    true = torch.tensor([history.count(row) for row in range(FIRST_KNOWN, NUM_ITEMS)])
    assert (counts >= true).all()


SPARSE = {sketch: hash_slots(1000, ((-1, 2),), 3000, sketch) for sketch in SKETCHES}


def apart(slots: HashSlots, num: int) -> list[int]:
    """Keys of a sketch that share no cell, neither with each other nor within one key."""
    taken: set[int] = set()
    chosen: list[int] = []
    for key, cells in list(tables(slots, 0)[1].items())[FIRST_KNOWN:]:
        own_cells = {cell for cell, _ in cells}
        if len(own_cells) == NUM_HASHES and not own_cells & taken and len(chosen) < num:
            chosen.append(key)
            taken |= own_cells
    return chosen


@each_sketch
@given(counts=st.lists(st.integers(0, 5), min_size=10, max_size=10))
def test_a_sketch_is_exact_where_nothing_collides(sketch: Sketch, counts):
    slots = SPARSE[sketch]
    keys = apart(slots, len(counts))
    history = [key for key, count in zip(keys, counts, strict=True) for _ in range(count)]
    assert counts_of(slots, history, keys).tolist() == counts


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


@pytest.mark.parametrize(("sketch", "is_unbiased"), [("signed", True), ("count_min", False)])
def test_only_a_signed_count_is_right_on_average(sketch: Sketch, is_unbiased: bool):
    """Over 300 choices of hashes, within four standard errors; one item is frequent enough never to be read as 0."""
    frequent, history = 2, [2] * 30 + list(range(3, 500))
    read = torch.stack([
        counts_of(hash_slots(300, ((-1, 1),), 1000, sketch, seed=seed), history, [frequent])
        for seed in range(300)
    ])  # fmt: skip
    assert read.min() > 0
    error = read - history.count(frequent)
    assert error.std() > 1
    assert (error.mean().abs() < 4 * error.std() / len(error) ** 0.5) == is_unbiased


def test_the_cells_of_a_key_that_does_not_occur_cancel_on_average():
    """Before the reading is cut off at zero, over 300 choices of hashes, each the mean over ten absent keys."""
    absent, history = range(2, 12), list(range(12, NUM_ITEMS)) * 3
    means = []
    for seed in range(300):
        slots = hash_slots(32, ((-1, 1),), sketch="signed", seed=seed)
        cells, cells_of = fill(slots, history)["e_comp"].flatten(), tables(slots, 0)[1]
        means.append(np.mean([sign * float(cells[c]) for k in absent for c, sign in cells_of[k]]))
    assert abs(np.mean(means)) < 4 * np.std(means) / len(means) ** 0.5
    assert np.std(means) > 0.1


# Ages


@pytest.mark.parametrize("half_life_days", [0.0, 0.5, 30.0])
def test_an_event_counts_by_its_age(half_life_days: float):
    slots = hash_slots(half_life_days=half_life_days)
    for age in range(NUM_AGES):
        counts = fill(slots, [5], [age])["counts"].sum().item()
        expected = len(FAMILIES) * weight_of(age, half_life_days)
        assert counts == pytest.approx(expected, rel=1e-4)


def test_an_event_fades_by_half_in_a_half_life():
    """As well as buckets tell ages: two to the octave, so within a fifth of it."""
    slots, day_s = hash_slots(families=((-1, 5),), half_life_days=10.0), 86_400
    for half_lives in (0, 1, 2, 20):
        (age,) = age_buckets(np.array([half_lives * 10 * day_s]))
        count = fill(slots, [5], [int(age)])["counts"].sum().item()
        assert 0.5 ** (1.2 * half_lives) * 0.999 <= count <= 0.5 ** (half_lives / 1.2)


# Hashes


def test_a_rebuilt_model_hashes_alike_and_families_do_not():
    first, again = hash_slots(sketch="signed"), hash_slots(sketch="signed")
    for name, buffer in first.named_buffers():
        assert torch.equal(buffer, again.get_buffer(name))
    twice = hash_slots(families=((0, 5), (0, 5)), sketch="signed")
    assert not torch.equal(twice.get_buffer("slot_0"), twice.get_buffer("slot_1") - 5)
    assert not torch.equal(twice.get_buffer("sign_0"), twice.get_buffer("sign_1"))


@each_sketch
def test_hashes_are_splitmix64(sketch: Sketch):
    """Records in a cache hold cells: another hash would read old counts wrongly."""
    families, offset, width = ((0, 5), (-1, 3)), 0, 1 + 2 * NUM_HASHES
    slots = hash_slots(families=families, sketch=sketch)
    for m, (_, num_slots) in enumerate(families):
        slot_of, cells_of = tables(slots, m)
        for key in range(NUM_ITEMS):
            first, *rest = (mix(key * width + j, seed=1 + m) for j in range(width))
            assert slot_of[key] == first % num_slots + offset
            cells = [x % (num_slots * slots.width) + offset * slots.width for x in rest[:4]]
            signs = [-1 if x % 2 and sketch == "signed" else 1 for x in rest[4:]]
            assert cells_of[key] == list(zip(cells, signs, strict=True))
        offset += num_slots


def test_a_key_keeps_its_hash_when_the_catalogue_grows():
    small, large = signed_slots(), hash_slots(num_items=2 * NUM_ITEMS, sketch="signed")
    for name in ("slot_0", "cell_0", "sign_0"):
        assert torch.equal(small.get_buffer(name), large.get_buffer(name)[:NUM_ITEMS])


def test_slots_and_cells_of_a_family_are_its_own_share():
    slots, width = hash_slots(families=((-1, 5), (0, 3)), num_items=4000), 4
    for m, (low, high) in enumerate(((0, 5), (5, 8))):
        slot, cell = (slots.get_buffer(f"{name}_{m}") for name in ("slot", "cell"))
        assert (int(slot.min()), int(slot.max()) + 1) == (low, high)
        assert (int(cell.min()), int(cell.max()) + 1) == (low * width, high * width)


def test_keys_spread_evenly_over_slots():
    slots = hash_slots(families=((-1, 64),), num_items=10_000)
    load = torch.bincount(slots.get_buffer("slot_0").long(), minlength=64).double()
    expected = 10_000 / 64
    chi_square = ((load - expected).square() / expected).sum().item()
    assert chi_square < 63 + 4 * (2 * 63) ** 0.5


def test_an_exact_family_deals_its_keys_to_all_of_its_rows():
    """Even where its cells fit into fewer: 40 keys have 4 cells each at hand."""
    slots = hash_slots(width=20, families=((0, 8),))
    assert slots.get_buffer("cell_0").flatten().tolist() == list(range(NUM_ITEMS))
    load = torch.bincount(slots.get_buffer("slot_0").long(), minlength=8)
    assert load.tolist() == [NUM_ITEMS // 8] * 8
