"""Item slots that count: equal to the kernel and exact counts over all events, as long as every item has a slot."""

import pytest
import torch

from models.batch import User
from models.blocks.lookup.matching import match_keys
from models.blocks.reading import Events, Read
from models.contract.schema import PADDING
from models.readers.counted_item_slots import CountedItemSlots
from models.readers.counts import CountReader
from models.readers.item_scores import KernelOfItems, PhiOfItems
from models.readers.kernel import KernelReader
from models.registry import build_model
from tests.cases import SCHEMA, item_fields, random_batch
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    assert_equals_loops,
    candidates,
    history,
    read,
    settled,
)
from tests.reference.attention import Answer, Weights, pooled
from tests.reference.attention import score as attention_score

HEADS = 3
KEYS = match_keys(item_fields(), LAYOUT.columns)


def newest_last(events: Events) -> Events:
    """Ages that fall towards the newest event, as those of a real history do."""
    there = events.rows != PADDING
    falling = torch.arange(LENGTH, 0, -1).expand_as(events.rows) // 2 + 1
    return Events(events.rows, falling * there, events.look_up)


def repeating(distinct: int) -> Events:
    """Histories in which only so many different items occur."""
    events = history()
    rows = torch.where(events.rows == PADDING, PADDING, 2 + events.rows % distinct)
    return newest_last(Events(rows, events.ages, events.look_up))


def slots(rank: int) -> CountedItemSlots:
    reader = settled(CountedItemSlots(LENGTH, rank, KernelOfItems(LAYOUT.widths, HEADS), KEYS))
    assert isinstance(reader, CountedItemSlots)
    return reader


@pytest.mark.parametrize("distinct", [1, 3, 7])
def test_they_read_what_kernel_and_counts_read(distinct: int) -> None:
    reader, events, wanted = slots(7), repeating(distinct), candidates()
    full = KernelReader(LENGTH, LAYOUT.widths, HEADS).double()
    assert isinstance(reader.score, KernelOfItems)
    full.kernel.load_state_dict(reader.score.kernel.state_dict())
    full.ages.load_state_dict(reader.ages.state_dict())
    counts = CountReader(LENGTH, KEYS).double()
    counts.ages.load_state_dict(reader.count_ages.state_dict())
    counts.latest.load_state_dict(reader.latest.state_dict())

    got = read(reader, events, wanted)

    attended, counted = read(full, events, wanted), read(counts, events, wanted)
    torch.testing.assert_close(got.mass, torch.cat([attended.mass, counted.mass], -1))
    torch.testing.assert_close(got.pooled, attended.pooled)


@pytest.mark.parametrize("distinct", [1, 3, 7])
def test_phi_of_items_is_phi_of_events_with_the_age_of_the_items_latest(distinct: int) -> None:
    score = PhiOfItems(LAYOUT.widths, hidden=6, heads=2, slope=0.1)
    reader = settled(CountedItemSlots(LENGTH, 7, score, KEYS))
    assert isinstance(reader, CountedItemSlots)
    events, wanted = repeating(distinct), candidates()
    phi = score.aged.score
    assert phi.w_s is not None
    extra = score.aged.ages @ phi.w_s
    worth = reader.ages(events.ages).mT.tolist()  # [B][H][L]
    names = ("w_1", "w_2", "w_3", "bias", "w_o")
    weights = Weights(**{n: getattr(phi, n).tolist() for n in names}, slope=0.1)

    def loops(user: int, target: list[float]) -> Answer:
        rows, keys = events.rows[user].tolist(), events.vectors[user].tolist()
        latest = dict(zip(rows, events.ages[user].tolist(), strict=True))  # the newest is last
        scores = [
            attention_score(weights, target, key, extra[latest[row]].tolist())
            for row, key in zip(rows, keys, strict=True)
        ]
        by_head = [
            [g * one[head] for g, one in zip(gs, scores, strict=True)]
            for head, gs in enumerate(worth[user])
        ]
        return pooled(by_head, [1.0] * LENGTH, keys, len(target))

    got = read(reader, events, wanted)
    assert_equals_loops(Read(got.mass[..., :2], got.pooled), events, wanted, loops)


def test_of_more_items_than_slots_no_count_is_too_high() -> None:
    events, wanted = newest_last(history()), candidates()
    few, many = slots(2), slots(LENGTH)
    many.load_state_dict(few.state_dict())

    less, all_of_it = read(few, events, wanted).mass, read(many, events, wanted).mass

    counts = slice(HEADS, HEADS + KEYS.shape[1])
    assert (less[..., counts] <= all_of_it[..., counts] + 1e-9).all()
    assert (less[..., counts] < all_of_it[..., counts] - 1e-6).any()


def test_a_model_with_them_is_din_with_exact_counts() -> None:
    """Built with one seed, they start with the same weights; so their scores are the same."""
    config = {"mlp": [16, 8], "item_dim": 8, "field_dim": 4, "heads": HEADS}
    din = build_model(
        "din", SCHEMA, item_fields(), {**config, "score": "kernel", "counts": "exact"}, 3
    )
    kinds = {"slots": "items", "rank": LENGTH, "counts": "slots"}
    lrea = build_model("lrea", SCHEMA, item_fields(), {**config, **kinds}, 3)
    batch = random_batch()
    events = newest_last(Events(batch.user.history, batch.user.ages, history().look_up))
    user = User(events.rows, events.ages, batch.user.fields)

    with torch.no_grad():
        expected = din.double().eval()(user, batch.context, batch.slate)
        got = lrea.double().eval()(user, batch.context, batch.slate)

    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("model", "config"), [("din", {"score": "kernel"}), ("lrea", {"slots": "content"})]
)
def test_models_without_item_slots_refuse_them(model: str, config: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="counts: got 'slots', expected a model with item slots"):
        build_model(model, SCHEMA, item_fields(), {**config, "counts": "slots"}, 0)


@pytest.mark.parametrize(
    "config", [{"slots": "items"}, {"slots": "content"}, {"slots": "position", "counts": "exact"}]
)
def test_phi_needs_item_slots_that_count(config: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"score: got 'phi' .* expected slots = 'items'"):
        build_model("lrea", SCHEMA, item_fields(), {**config, "score": "phi"}, 0)
