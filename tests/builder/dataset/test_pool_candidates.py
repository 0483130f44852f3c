"""Candidates from pools: labels are purchases, draws are uniform and corrected for, histories are strictly before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dataset.batches import BatchSource, Slates, find_slates
from builder.dataset.pool_candidates import PoolCandidates
from builder.ingest.events import Events
from builder.recipe.sampling import SamplingRule
from tests.builder.hand_made import Event, make_events, with_pools

RULE = SamplingRule(positives=3, negatives=4)
NUM_ITEMS = 20
Log = tuple[list[list[Event]], list[dict[int, int]], list[int]]
"""Events of users, pools, and the pool of each event."""


def source_of(events: Events, rule: SamplingRule = RULE) -> tuple[BatchSource, Slates]:
    """The source of a log with pools, and its training slates."""
    source = BatchSource(events, None, slate_events=1, per_positive=1, sampling=rule)
    return source, find_slates(events, "train", min_events=0, max_events=1)


def one_basket(bought: list[int], pool: list[int]) -> Events:
    """A purchase before, then one basket with a pool."""
    events = make_events([[Event(50, 19), *(Event(150, item) for item in bought)]])
    return with_pools(events, [dict.fromkeys(pool, 2)], [-1, *[0] * len(bought)])


@st.composite
def baskets(draw: st.DrawFn) -> Log:
    """Users with baskets at times 100 to 104, each with one of several pools or none."""
    ids = st.integers(2, NUM_ITEMS - 1)
    pools = draw(
        st.lists(
            st.dictionaries(ids, st.integers(2, 11), min_size=1, max_size=12),
            min_size=1,
            max_size=4,
        )
    )
    users, event_pool = [], []
    for _ in range(draw(st.integers(1, 3))):
        user = []
        for ts_s in sorted(draw(st.sets(st.integers(100, 104), min_size=1))):
            items = draw(st.lists(ids, min_size=1, max_size=8))
            user += [Event(ts_s, item) for item in items]
            event_pool += [draw(st.integers(-1, len(pools) - 1))] * len(items)
        users.append(user)
    return users, pools, event_pool


def events_of(log: Log) -> Events:
    """The drawn log. Not made in the strategy: checks of annotations draw random numbers of their own."""
    users, pools, event_pool = log
    return with_pools(make_events(users, num_items=NUM_ITEMS), pools, event_pool)


def purchases(events: Events, slates: Slates, row: int) -> set[int]:
    """Items of a slate's events."""
    return set(np.asarray(events.item[slates.begin[row] : slates.end[row]]).tolist())


@given(baskets())
def test_whole_slates_hold_the_pool_and_its_purchases(log) -> None:
    events, pools = events_of(log), log[1]
    source, slates = source_of(events)
    if not len(slates):
        assert max(log[2]) < 0
        return

    batch, targets = source.whole(slates, np.arange(len(slates)))

    for row in range(len(slates)):
        pool = pools[log[2][slates.begin[row]]]
        mask = targets.mask[row]
        items = targets.items[row][mask].tolist()
        bought = purchases(events, slates, row) & set(pool)
        assert items == sorted(pool)
        assert batch.slate.fields[row, :, 0][mask].tolist() == [pool[item] for item in items]
        assert targets.label[row][mask].tolist() == [item in bought for item in items]
        assert set(targets.items[row]) == set(pool), "padding repeats real candidates"
        event = targets.event[row][mask & (targets.label[row] > 0)]
        assert events.item[event].tolist() == sorted(bought)
    assert np.array_equal(targets.weight, targets.mask)
    assert not batch.offset.any()
    assert source.num_positives(slates).tolist() == targets.label.sum(1).tolist()
    assert source.pool_sizes(slates).tolist() == targets.mask.sum(1).tolist()


@given(baskets(), st.integers(0, 5))
def test_sampled_negatives_are_never_bought_and_positives_are(log, seed) -> None:
    events, pools = events_of(log), log[1]
    source, slates = source_of(events)
    if not len(slates):
        return

    batch, targets = source.batch(slates, np.arange(len(slates)), np.random.default_rng(seed))

    for row in range(len(slates)):
        pool = pools[log[2][slates.begin[row]]]
        bought = purchases(events, slates, row) & set(pool)
        mask, label = targets.mask[row], targets.label[row]
        positives = targets.items[row][mask & (label == 1)]
        negatives = targets.items[row][mask & (label == 0)]
        assert set(positives) <= bought
        assert len(set(positives)) == len(positives) == min(len(bought), RULE.positives)
        assert set(negatives) <= set(pool) - bought
        assert len(negatives) == (RULE.negatives if set(pool) - bought else 0)
        assert targets.weight[row][mask & (label == 1)].sum() == pytest.approx(len(bought))
        fields = batch.slate.fields[row, :, 0].tolist()
        assert fields == [pool[item] for item in targets.items[row].tolist()]
    assert not targets.label[~targets.mask].any()
    assert not targets.weight[~targets.mask].any()


@given(baskets())
def test_history_ends_before_the_basket(log) -> None:
    events = events_of(log)
    source, slates = source_of(events)
    if not len(slates):
        return

    _, targets = source.whole(slates, np.arange(len(slates)))

    for row, user in enumerate(slates.user):
        own = slice(events.offsets[user], events.offsets[user + 1])
        time_s = events.ts_s[slates.begin[row]]
        before = events.item[own][events.ts_s[own] < time_s]
        assert targets.history[row].tolist() == [0, 0, 0, 0, *before.tolist()][-4:]


def test_draws_are_uniform_over_the_rest_of_the_pool() -> None:
    events = one_basket(bought=[3, 7, 18], pool=[2, 3, 4, 5, 7, 9, 12])
    source, slates = source_of(events, SamplingRule(positives=1, negatives=1000))

    _, targets = source.batch(slates, np.zeros(10, int), np.random.default_rng(0))

    drawn, counts = np.unique(targets.items[targets.label == 0], return_counts=True)
    assert drawn.tolist() == [2, 4, 5, 9, 12]
    assert (np.abs(counts - 2000) < 5 * np.sqrt(2000)).all()
    taken = targets.items[targets.label == 1]
    assert set(taken) == {3, 7}


def test_weights_and_offset_give_the_sums_of_whole_pools() -> None:
    """Of five positives two are taken, of eight negatives three are drawn: sums are right on average."""
    pool = list(range(2, 15))
    events = one_basket(bought=[2, 4, 5, 9, 14], pool=pool)
    source, slates = source_of(events, SamplingRule(positives=2, negatives=3))
    value = np.random.default_rng(1).normal(size=NUM_ITEMS)
    batch, targets = source.batch(slates, np.zeros(40_000, int), np.random.default_rng(0))

    inverse_rate = targets.weight * np.exp(batch.offset.numpy() * (1 - targets.label))
    bought = (inverse_rate * targets.label * value[targets.items]).sum(1)
    others = (inverse_rate * (1 - targets.label) * value[targets.items]).sum(1)

    rest = [item for item in pool if item not in (2, 4, 5, 9, 14)]
    for sums, expected in [
        (bought, value[[2, 4, 5, 9, 14]].sum()),
        (others, value[rest].sum()),
        ((inverse_rate * targets.label).sum(1), 5),
        ((inverse_rate * (1 - targets.label)).sum(1), 8),
    ]:
        error = sums.std() / np.sqrt(len(sums))
        assert abs(sums.mean() - expected) < 5 * error + 1e-3


def test_a_pool_that_was_bought_out_has_no_negatives() -> None:
    source, slates = source_of(one_basket(bought=[3, 4], pool=[3, 4]))

    batch, targets = source.batch(slates, np.array([0]), np.random.default_rng(0))

    assert targets.label[targets.mask].tolist() == [1, 1]
    assert np.isfinite(batch.offset.numpy()).all()


def test_a_basket_without_a_purchase_from_its_pool_is_a_slate() -> None:
    source, slates = source_of(one_basket(bought=[3], pool=[5, 6]))

    _, targets = source.batch(slates, np.array([0]), np.random.default_rng(0))

    assert len(slates) == 1
    assert not targets.label.any()
    assert targets.mask[0].tolist() == [False] * 3 + [True] * 4
    assert set(targets.items[0]) == {5, 6}


def test_an_item_bought_twice_in_a_basket_is_one_positive() -> None:
    source, slates = source_of(one_basket(bought=[3, 3, 4], pool=[3, 5]))

    _, targets = source.whole(slates, np.array([0]))

    assert source.num_positives(slates).tolist() == [1]
    assert targets.event.tolist() == [[1, -1]]


def test_slates_of_one_time_are_apart_by_pool_and_big_ones_are_not_cut() -> None:
    events = make_events([[Event(150, item) for item in range(2, 12)]])
    events = with_pools(events, [{2: 2}, {3: 2}], [-1] * 2 + [0] * 3 + [1] * 5)

    slates = find_slates(events, "train", min_events=0, max_events=1)

    assert list(zip(slates.begin, slates.end, slates.first, strict=True)) == [(2, 5, 0), (5, 10, 0)]


def many_slates(num_rich: int, num_poor: int) -> Events:
    """One user with a slate every second; the first ones have a positive."""
    count = num_rich + num_poor
    events = make_events([[Event(100, 2 if i < num_rich else 3) for i in range(count)]])
    events = replace(events, ts_s=np.arange(100, 100 + count))
    split = replace(events.split, validate_from_s=10_000, test_from_s=10_001, end_s=10_002)
    return with_pools(replace(events, split=split), [{2: 2, 4: 3}], [0] * count)


def test_batches_are_stratified_and_weighted_back_to_the_log() -> None:
    source, slates = source_of(many_slates(20, 60))

    batches = list(source.order(slates, 8, np.random.default_rng(0), shuffle=True))

    assert len(batches) == 10
    for chosen, weight in batches:
        assert weight is not None
        assert (chosen < 20).sum() == 6
        assert weight[chosen < 20].sum() == pytest.approx(8 * 0.25)
        assert weight[chosen >= 20].sum() == pytest.approx(8 * 0.75)
    seen = np.concatenate([chosen for chosen, _ in batches])
    assert np.bincount(seen[seen < 20], minlength=20).tolist() == [3] * 20
    assert np.bincount(seen[seen >= 20], minlength=80)[20:].max() == 1


def test_batches_carry_the_weights_of_slates() -> None:
    source, slates = source_of(many_slates(20, 60))

    (batch, targets), *_ = source.epoch(slates, 8, np.random.default_rng(0), shuffle=True)

    assert np.array_equal(batch.weight.numpy(), targets.weight)
    rich = targets.slate < 20
    assert targets.weight[rich].sum() == pytest.approx(8 * 0.25 * 5)
    assert targets.weight[~rich].sum() == pytest.approx(8 * 0.75 * 4)


@pytest.mark.parametrize("counts", [(12, 0), (0, 12)])
def test_a_log_with_one_kind_of_slates_is_not_weighted(counts) -> None:
    source, slates = source_of(many_slates(*counts))

    for chosen, weight in source.order(slates, 8, np.random.default_rng(0), shuffle=True):
        assert len(chosen) == 8
        assert weight is not None
        assert (weight == 1).all()


def test_without_shuffling_every_slate_comes_once() -> None:
    source, slates = source_of(many_slates(3, 7))

    order = [
        chosen for chosen, _ in source.order(slates, 4, np.random.default_rng(0), shuffle=False)
    ]

    assert np.concatenate(order).tolist() == list(range(10))


def test_a_log_without_pools_has_no_whole_pools() -> None:
    events = make_events([[Event(150, 2)]])
    source, slates = source_of(events)

    assert not source.has_pools
    with pytest.raises(ValueError, match="got a log without pools"):
        source.whole(slates, np.array([0]))
    with pytest.raises(ValueError, match="got a log without pools"):
        PoolCandidates(events, RULE)
