"""Slots under the kernel: against loops, and against the kernel over all events."""

import pytest
import torch
from torch import Tensor

from models.blocks.lookup.matching import match_keys
from models.blocks.reading import Events
from models.contract.schema import PADDING
from models.readers.kernel import KernelReader
from models.readers.slots import ClusterSlots, ContentSlots, HashSlots, SlotReader, find_anchors
from tests.cases import item_fields
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    assert_equals_loops,
    candidates,
    history,
    items,
    read,
    settled,
)
from tests.reference.attention import Answer, kernel, slot_worth

HEADS = 2
KEYS = match_keys(item_fields(), LAYOUT.columns)


def content(rank: int = 5) -> SlotReader:
    return ContentSlots(LAYOUT, find_anchors(item_fields(), 2, rank), HEADS)


KINDS = {
    "content": content,
    "cluster": lambda rank=5: ClusterSlots(LAYOUT, rank, HEADS),
    "hash": lambda rank=6: HashSlots(LAYOUT, KEYS, rank, HEADS),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_slots_equal_the_equation(kind: str):
    reader, events, wanted = settled(KINDS[kind]()), history(), candidates()
    assert isinstance(reader, SlotReader)
    state = reader.encode(events)
    tau, gamma = reader.kernel.tau().tolist(), reader.gamma.tolist()

    def loops(user: int, target: list[float]) -> Answer:
        means, counts = state["slot_means"][user].tolist(), state["slot_counts"][user].tolist()
        worth = [
            [
                slot_worth(own, gamma, m, n[head], LAYOUT.widths)
                for m, n in zip(means, counts, strict=True)
            ]
            for head, own in enumerate(tau)
        ]
        return kernel(tau, target, means, LAYOUT.widths, worth)

    got = SlotReader.read(reader, _state(reader, events), wanted)
    assert_equals_loops(got, events, wanted, loops)


def _state(reader: SlotReader, events: Events):
    from models.readers.base import State

    return State(reader.encode(events), events.look_up)


@each_kind
def test_means_and_counts_are_those_of_the_dealt_events(kind: str):
    reader, events = settled(KINDS[kind]()), history()
    assert isinstance(reader, SlotReader)
    state, share = reader.encode(events), reader.deal(events)
    share = share * (events.rows != PADDING)[..., None]
    worth = reader.ages(events.ages)
    for user in range(len(events.rows)):
        for slot in range(reader.rank):
            mine = share[user, :, slot]
            mean = (mine[:, None] * events.vectors[user]).sum(0) / mine.sum().clamp(min=1e-6)
            torch.testing.assert_close(state["slot_means"][user, slot], mean)
            count = (mine[:, None] * worth[user]).sum(0)
            torch.testing.assert_close(state["slot_counts"][user, slot], count)


def test_a_cluster_of_its_own_for_every_event_equals_the_kernel_over_all():
    reader = ClusterSlots(LAYOUT, LENGTH, HEADS).double()
    every = KernelReader(LENGTH, LAYOUT.widths, HEADS).double()
    events, wanted = history(), candidates()
    got, expected = read(reader, events, wanted), read(every, events, wanted)
    # The unit ball's centre stands for an unknown value in both, but a slot takes it for a spread.
    torch.testing.assert_close(got.mass, expected.mass, rtol=0, atol=1e-3)
    torch.testing.assert_close(got.pooled, expected.pooled, rtol=0, atol=1e-3)


def test_slots_that_are_not_filled_have_no_weight():
    events, wanted = history(), candidates()
    few, many = (ClusterSlots(LAYOUT, rank, HEADS).double() for rank in (LENGTH, 4 * LENGTH))
    torch.testing.assert_close(read(few, events, wanted).mass, read(many, events, wanted).mass)


def test_clusters_keep_equal_items_together():
    rows = torch.tensor([[3, 3, 4, 4, 4, 5, 5, 3, 4, 5, 5, 3]])
    events = Events(rows, torch.ones_like(rows), items())
    share = ClusterSlots(LAYOUT, 4, HEADS).double().deal(events)[0]
    for row in (3, 4, 5):
        own = share[rows[0] == row]
        assert (own == own[0]).all()


def test_content_slots_add_up():
    """The sums of two halves of a history are those of the whole."""
    reader, events = settled(content()), history()
    whole = reader.encode(events)["slot_counts"]
    halves = [
        reader.encode(Events(events.rows * keep, events.ages * keep, events.look_up))["slot_counts"]
        for keep in (torch.arange(LENGTH) < 7, torch.arange(LENGTH) >= 7)
    ]
    torch.testing.assert_close(halves[0] + halves[1], whole)


def test_an_anchor_attracts_its_own_item():
    anchors = find_anchors(item_fields(), 2, 5)
    rows = anchors.repeat(3)[None, -LENGTH:]
    share = content().double().deal(Events(rows, torch.ones_like(rows), items()))
    assert (share.argmax(-1)[0] == torch.arange(15)[-LENGTH:] % 5).all()


def test_anchors_are_popular_and_of_different_kinds():
    fields = torch.tensor(
        [[0, 0, 0], [1, 1, 1], [2, 5, 3], [3, 5, 9], [4, 6, 4], [5, 7, 8], [6, 6, 7]]
    )
    assert find_anchors(fields, 2, 4).tolist() == [3, 5, 6, 4]
    assert find_anchors(fields, None, 3).tolist() == [2, 4, 5]
    assert len(find_anchors(fields, 2, 9)) == 9


def test_a_candidate_reads_its_own_hash_slots():
    reader = HashSlots(LAYOUT, KEYS, 6, HEADS).double()
    events, wanted = history(), candidates()
    got, state = read(reader, events, wanted), reader.encode(events)
    for user, rows in enumerate(wanted.rows.tolist()):
        for place, row in enumerate(rows):
            for key in range(KEYS.shape[1]):
                slot = int(reader.slots[row, key])
                expected = state["slot_means"][user, slot] if slot >= 0 else torch.zeros(10)
                torch.testing.assert_close(
                    got.pooled[user, place, HEADS + key], expected, check_dtype=False
                )


def test_hash_slots_need_a_slot_for_each_key():
    with pytest.raises(ValueError, match="rank: got 1, expected at least 2"):
        HashSlots(LAYOUT, KEYS, 1, HEADS)


def test_empty_histories_have_finite_gradients():
    nothing = torch.zeros(2, LENGTH, dtype=torch.int64)
    for make in KINDS.values():
        reader, wanted = make().double(), candidates(users=2)
        events = Events(nothing, nothing, items())
        got: Tensor = SlotReader.read(reader, _state(reader, events), wanted).mass.sum()
        got.backward()
        grads = [w.grad for w in reader.parameters() if w.grad is not None]
        assert all(grad.isfinite().all() for grad in grads)
