"""Item slots: equal to the kernel over all events, until there are more items than slots."""

import pytest
import torch

from models.blocks.reading import Events
from models.contract.schema import PADDING
from models.readers.item_scores import KernelOfItems
from models.readers.item_slots import ItemSlots
from models.readers.kernel import KernelReader
from tests.models.readers.arrange import LAYOUT, LENGTH, candidates, history, read, settled

HEADS = 3


def repeating(distinct: int) -> Events:
    """Histories in which only so many different items occur."""
    events = history()
    rows = torch.where(events.rows == PADDING, PADDING, 2 + events.rows % distinct)
    return Events(rows, events.ages, events.look_up)


def slots(rank: int) -> ItemSlots:
    reader = settled(ItemSlots(LENGTH, rank, KernelOfItems(LAYOUT.widths, HEADS)))
    assert isinstance(reader, ItemSlots)
    return reader


@pytest.mark.parametrize("distinct", [1, 3, 7])
def test_items_in_slots_are_read_as_all_their_events(distinct: int):
    reader, events, wanted = slots(7), repeating(distinct), candidates()
    full = KernelReader(LENGTH, LAYOUT.widths, HEADS).double()
    assert isinstance(reader.score, KernelOfItems)
    full.kernel.load_state_dict(reader.score.kernel.state_dict())
    full.ages.load_state_dict(reader.ages.state_dict())

    got, expected = read(reader, events, wanted), read(full, events, wanted)

    torch.testing.assert_close(got.mass, expected.mass)
    torch.testing.assert_close(got.pooled, expected.pooled)


def test_the_items_with_the_largest_sums_are_kept():
    reader = slots(2)
    rows = torch.tensor([[PADDING] * (LENGTH - 6) + [5, 6, 5, 7, 6, 5]])
    events = Events(rows, (rows > 0).long(), history().look_up)

    state = reader.encode(events)

    assert state["slot_items"].tolist() == [[5, 6]]
    once = reader.ages(torch.ones(1, 1, dtype=torch.long))[0, 0]
    torch.testing.assert_close(state["slot_sums"][0], torch.stack([3 * once, 2 * once]))


def test_more_items_than_slots_lose_mass_and_nothing_else_gains():
    events, wanted = history(), candidates()
    few, many = slots(2), slots(LENGTH)
    many.load_state_dict(few.state_dict())

    less, all_of_it = read(few, events, wanted).mass, read(many, events, wanted).mass

    assert (less <= all_of_it + 1e-9).all()
    assert (less < all_of_it - 1e-6).any()


def test_an_empty_history_has_no_mass():
    rows = torch.zeros(6, LENGTH, dtype=torch.int64)
    got = read(slots(4), Events(rows, rows, history().look_up), candidates())

    assert got.mass.abs().max() == 0
    assert got.pooled.abs().max() == 0
