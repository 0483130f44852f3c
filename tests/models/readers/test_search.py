"""Two-stage readers: the search against sorting, the attention against the kernel over the events found."""

from math import inf

import pytest
import torch
from torch import Tensor

from models.blocks.lookup.top_k import RESOLUTION
from models.blocks.reading import Candidates, Events
from models.contract.schema import PADDING
from models.readers.base import State
from models.readers.kernel import KernelReader
from models.readers.search import (
    CategorySearch,
    HashSearch,
    KernelSearch,
    SearchReader,
    SoftSearch,
)
from tests.cases import item_fields
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    candidates,
    history,
    items,
    read,
    settled,
)
from tests.reference.attention import kernel, kernel_weight
from tests.reference.sim_hash import bits, hamming
from tests.reference.two_stage import best, dot, project

HEADS = 2
CATEGORY = item_fields()[:, 1]
KINDS = {
    "hard": lambda k: CategorySearch(LENGTH, LAYOUT.widths, HEADS, k, CATEGORY),
    "soft": lambda k: SoftSearch(LENGTH, LAYOUT.widths, HEADS, k, hidden=5, slope=0.1),
    "hash": lambda k: HashSearch(LENGTH, LAYOUT.widths, HEADS, k, 20),
    "kernel": lambda k: KernelSearch(LENGTH, LAYOUT.widths, HEADS, k),
}


def scores(
    reader: SearchReader, events: Events, user: int, row: int, target: list[float]
) -> list[float]:
    """By which the search sorts one user's events for one candidate."""
    rows, vectors = events.rows[user].tolist(), events.vectors[user].tolist()
    newer = [RESOLUTION / LENGTH * at for at in range(LENGTH)]
    if isinstance(reader, CategorySearch):
        return [at if CATEGORY[e] == CATEGORY[row] else -inf for at, e in enumerate(rows)]
    if isinstance(reader, SoftSearch):
        query = project(target, reader.w_a.tolist())
        keys = [project(e, reader.w_b.tolist()) for e in vectors]
        return [dot(query, key) + bonus for key, bonus in zip(keys, newer, strict=True)]
    if isinstance(reader, HashSearch):
        planes = reader.hash.planes.tolist()
        own = bits(target, planes)
        return [-2.0 * hamming(own, bits(e, planes)) + at / LENGTH for at, e in enumerate(vectors)]
    shift, tau = reader.ages.log(events.ages)[user].tolist(), reader.kernel.tau().tolist()
    exponents = [
        max(
            shift[at][head]
            + torch.tensor(kernel_weight(tau[head], target, e, LAYOUT.widths)).log().item()
            for head in range(HEADS)
        )
        for at, e in enumerate(vectors)
    ]
    return [exponent + bonus for exponent, bonus in zip(exponents, newer, strict=True)]


@pytest.mark.parametrize("k", [1, 3, LENGTH, LENGTH + 5])
@pytest.mark.parametrize("kind", KINDS)
def test_it_attends_to_the_events_that_sorting_finds(kind: str, k: int):
    reader, events, wanted = settled(KINDS[kind](k)), history(), candidates()
    assert isinstance(reader, SearchReader)
    got, tau = read(reader, events, wanted), reader.kernel.tau().tolist()
    worth = reader.ages(events.ages)
    for user, rows in enumerate(wanted.rows.tolist()):
        real = (events.rows[user] != PADDING).tolist()
        for place, row in enumerate(rows):
            target = wanted.vectors[user, place].tolist()
            found = best(scores(reader, events, user, row, target), real, k)
            masses, pooled = kernel(
                tau,
                target,
                events.vectors[user, found].tolist(),
                LAYOUT.widths,
                worth[user, found].mT.tolist() if found else [[]] * HEADS,
            )
            same(got.mass[user, place], masses)
            same(got.pooled[user, place], pooled)


def same(got: Tensor, expected: object) -> None:
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["soft", "hash", "kernel"])
def test_with_room_for_all_events_it_equals_the_kernel_over_all(kind: str):
    reader, events, wanted = KINDS[kind](LENGTH).double(), history(), candidates()
    every = KernelReader(LENGTH, LAYOUT.widths, HEADS).double()
    got, expected = read(reader, events, wanted), read(every, events, wanted)
    torch.testing.assert_close(got.mass, expected.mass)
    torch.testing.assert_close(got.pooled, expected.pooled)


def test_the_search_unit_equals_its_equation_and_alone_trains_the_search():
    reader = settled(KINDS["soft"](3))
    assert isinstance(reader, SoftSearch)
    events, wanted = history(), candidates()
    state = State(reader.encode(events), events.look_up, events)
    out = reader.train_read(state, wanted)
    (logits,) = out.auxiliary
    for user in range(len(events.rows)):
        size = max(int((events.rows[user] != PADDING).sum()), 1) ** 0.5
        for place, target in enumerate(wanted.vectors[user]):
            relevance = (target @ reader.w_a) @ (events.vectors[user] @ reader.w_b).mT
            interest = relevance @ events.vectors[user] / size
            expected = reader.tower(torch.cat([interest, target]))
            torch.testing.assert_close(logits[user, place], expected[0])
    out.read.mass.sum().backward(retain_graph=True)
    assert reader.w_a.grad is None
    logits.sum().backward()
    assert reader.w_a.grad is not None


def test_at_the_start_a_soft_search_finds_events_of_the_candidates_item():
    reader = SoftSearch(LENGTH, LAYOUT.widths, HEADS, 3, hidden=8, slope=0.1).double()
    rows = torch.arange(2, 30)[None]
    every = Candidates(rows, items()(rows))
    relevance = reader.relevance(Events(rows, torch.ones_like(rows), items()), every)[0]
    better = (relevance > relevance.diagonal()[:, None]).sum(-1)
    assert (better < 3).double().mean() > 0.9


def test_sizes_below_1_are_refused():
    with pytest.raises(ValueError, match="k: got 0, expected at least 1"):
        KINDS["kernel"](0)
    with pytest.raises(ValueError, match="num_bits: got 0, expected at least 1"):
        HashSearch(LENGTH, LAYOUT.widths, HEADS, 3, 0)


def test_padding_in_front_does_not_change_which_of_near_equal_events_are_found() -> None:
    """Training cuts it off."""
    reader = settled(KernelSearch(LENGTH, LAYOUT.widths, 2, 2))
    assert isinstance(reader, KernelSearch)
    reader.resolution = 20.0  # so that all events of these short histories are nearly equal
    full, wanted = history(), candidates()
    longest = 5
    there = torch.arange(LENGTH) >= LENGTH - longest
    padded = Events(full.rows * there, full.ages * there, full.look_up)
    cut = Events(full.rows[:, -longest:], full.ages[:, -longest:], full.look_up)

    got, expected = read(reader, cut, wanted), read(reader, padded, wanted)

    torch.testing.assert_close(got.mass, expected.mass)
    torch.testing.assert_close(got.pooled, expected.pooled)
