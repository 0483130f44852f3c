"""Histories, candidates and readers that tests of readers share, in double precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.blocks.reading import Candidates, Events, Read
from models.blocks.unit_items import ItemLayout, UnitItems
from models.readers.base import Reader, State
from tests.cases import SCHEMA, item_fields, random_batch
from tests.reference.attention import Answer

LENGTH = SCHEMA.history_length
LAYOUT = ItemLayout.of(SCHEMA.item_fields, ("popularity",), 6, 4)


def items() -> UnitItems:
    torch.manual_seed(0)
    return UnitItems(item_fields(), SCHEMA.item_fields, LAYOUT).double()


def history(users: int = 6, seed: int = 0) -> Events:
    """Histories of all lengths from empty to full."""
    user = random_batch(users=users, seed=seed).user
    return Events(user.history, user.ages, items())


def candidates(users: int = 6, num: int = 5, seed: int = 0) -> Candidates:
    rows = random_batch(users=users, candidates=num, seed=seed).slate.items
    return Candidates(rows, items()(rows))


def settled(reader: Reader) -> Reader:
    """The reader in double precision, with random numbers added to all weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in reader.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return reader.double().eval()


def read(reader: Reader, events: Events, wanted: Candidates) -> Read:
    """Encode and read, as a model that is served does."""
    with torch.no_grad():
        return reader.read(State(reader.encode(events), events.look_up), wanted)


def assert_equals_loops(
    got: Read, events: Events, wanted: Candidates, loops: Callable[[int, list[float]], Answer]
) -> None:
    """Compare with a reference that gets a user and one candidate's vector."""
    for user in range(len(events.rows)):
        for place, target in enumerate(wanted.vectors[user].tolist()):
            masses, pooled = loops(user, target)
            same(got.mass[user, place], masses)
            same(got.pooled[user, place], pooled)


def same(got: Tensor, expected: object) -> None:
    torch.testing.assert_close(got.double(), torch.tensor(expected, dtype=torch.float64))
