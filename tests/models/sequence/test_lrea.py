"""LREA against the paper's equations as loops, and where its two forms agree. All in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.batch import Batch
from models.contract.schema import Field
from models.registry import build_model
from models.sequence.hash_slots import Family, HashSlots
from models.sequence.hybrid_slots import HybridSlots
from models.sequence.lrea import LREA
from models.sequence.slots import PositionSlots
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.models.arrange import attend_by_loops
from tests.reference.attention import auxiliary, compress, decompress, non_negativity

FORMS = ("concat", "split")
each_form = pytest.mark.parametrize("form", FORMS)
WITHOUT_COUNTS = [{"slots": "position"}, {"slots": "content"}, {"slots": "content", "hard": True}]
WITH_COUNTS = [
    {"slots": "hash"},
    {"slots": "hash", "families": [["item", 1], ["category", 3]]},
    {"slots": "hash", "half_life_days": 5.0},
    {"slots": "hybrid", "content_slots": 2},
    {"slots": "hybrid", "content_slots": 1, "hard": True, "families": [["item", 3]]},
]
"""A family of one slot has room for 7 of the 30 items; the other families have room for all that occur."""


def lrea(**config: object) -> LREA:
    model = build_model("lrea", SCHEMA, item_fields(), {**SIZES, "rank": 4, **config})
    assert isinstance(model, LREA)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape))
    return model.double().eval()


def position_slots(model: LREA) -> PositionSlots:
    assert isinstance(model.slots, PositionSlots)
    return model.slots


def by_matrix(function, rows: Tensor, *matrices: Tensor) -> Tensor:
    """Apply a reference function of one user's matrix to each user."""
    plain = [matrix.tolist() for matrix in matrices]
    return torch.tensor([function(user.tolist(), *plain) for user in rows], dtype=torch.float64)


def finished(model: LREA, batch: Batch, long: Tensor) -> Tensor:
    """Logits with the long-history vector, which is divided by √L."""
    profile = model.frame.profile(batch.user.fields)
    target = model.frame.items(batch.slate.items)
    return model.frame.logits(profile, batch.context, target, long / SCHEMA.history_length**0.5)


def trained(model: LREA, batch: Batch) -> Tensor:
    return model.train_forward(batch.user, batch.context, batch.slate).logits


def served(model: LREA, batch: Batch) -> Tensor:
    logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


# The equations


@pytest.mark.parametrize("decompression", ["free", "softmax"])
@pytest.mark.parametrize(
    ("form", "exact_target"), [("concat", False), ("split", False), ("split", True)]
)
def test_the_served_form_is_equation_9(form: str, decompression: str, exact_target: bool):
    model = lrea(form=form, decompression=decompression, init="gaussian", exact_target=exact_target)
    slots, batch = position_slots(model), random_batch()
    events, target = model.frame.items(batch.user.history), model.frame.items(batch.slate.items)
    keys = by_matrix(compress, events, slots.w_comp)
    values = by_matrix(auxiliary, events, slots.w_decomp)
    total = events.sum(1) if exact_target else None
    long = attend_by_loops(model.attention, target, keys, values, total=total)
    torch.testing.assert_close(served(model, batch), finished(model, batch, long))


@each_form
def test_the_form_that_the_paper_trains_is_equation_5(form: str):
    model = lrea(form=form, graph="decompressed", init="gaussian")
    slots, batch = position_slots(model), random_batch()
    events, target = model.frame.items(batch.user.history), model.frame.items(batch.slate.items)
    compressed = by_matrix(compress, events, slots.w_comp)
    restored = by_matrix(decompress, compressed, slots.w_decomp)
    long = attend_by_loops(model.attention, target, restored, events)
    torch.testing.assert_close(trained(model, batch), finished(model, batch, long))


def test_the_penalty_is_equation_10_times_lambda():
    model, batch = lrea(nonneg=0.3, init="gaussian"), random_batch()
    slots = position_slots(model)
    events = model.frame.items(batch.user.history)
    compressed = by_matrix(compress, events, slots.w_comp).tolist()
    expected = 0.3 * non_negativity(slots.w_decomp.tolist(), compressed)
    penalty = model.train_forward(batch.user, batch.context, batch.slate).penalty
    assert penalty is not None
    assert expected > 0.01
    assert penalty.item() == pytest.approx(expected)
    assert lrea().train_forward(batch.user, batch.context, batch.slate).penalty is None


@pytest.mark.parametrize("config", WITHOUT_COUNTS[1:] + WITH_COUNTS, ids=str)
def test_with_summing_slots_the_keys_are_means_and_the_log_count_is_an_input(config):
    model, batch = lrea(**config), random_batch()
    assert model.attention.w_s is not None
    state, target = model.encode(batch.user), model.frame.items(batch.slate.items)
    keys = state["e_auxabsorb"] / (state["counts"][..., None] + 1e-3)
    bias = torch.log1p(state["counts"])[..., None] @ model.attention.w_s
    long = attend_by_loops(model.attention, target, keys, state["e_auxabsorb"], key_bias=bias)
    own = torch.cat(model.slots.own(state, batch.slate.items, target), -1)
    expected = finished(model, batch, torch.cat([long, own * SCHEMA.history_length**0.5], -1))
    torch.testing.assert_close(served(model, batch), expected + from_counts(model, batch))


def from_counts(model: LREA, batch: Batch) -> Tensor:
    """What the scalars of each candidate's own slots add to its logit directly."""
    target = model.frame.items(batch.slate.items)
    _, scalars = model.slots.own(model.encode(batch.user), batch.slate.items, target)
    added = torch.zeros(scalars.shape[:2], dtype=scalars.dtype)
    if model.wide is not None:
        for n, weight in enumerate(model.wide.weight[0].tolist()):
            added += weight * scalars[..., n]
    return added


@pytest.mark.parametrize("config", WITH_COUNTS, ids=str)
def test_counts_are_added_to_the_logit_beside_the_head(config):
    model, batch = lrea(**config), random_batch()
    with torch.no_grad():
        before = served(model, batch)
        added = from_counts(model, batch)
        assert (
            added[1:].abs() > 1e-3
        ).double().mean() > 0.5  # an item that no history holds adds nothing
        assert model.wide is not None
        model.wide.weight.mul_(3)
        torch.testing.assert_close(served(model, batch), before + 2 * added)


@pytest.mark.parametrize("config", WITHOUT_COUNTS, ids=str)
def test_slots_without_counts_add_nothing_beside_the_head(config):
    assert lrea(**config).wide is None


@pytest.mark.parametrize("slots", ["content", "hybrid"])
@pytest.mark.parametrize("is_hard", [True, False])
def test_hard_makes_content_slots_hard(slots: str, is_hard: bool):
    model = lrea(slots=slots, hard=is_hard, content_slots=2)
    counts = model.encode(random_batch().user)["counts"][:, : 2 if slots == "hybrid" else 4]
    assert torch.equal(counts, counts.round()) == is_hard


@pytest.mark.parametrize(("slots", "rank"), [("hash", 2), ("hybrid", 4)])
def test_only_hash_slots_weigh_events_by_age(slots: str, rank: int):
    model = lrea(slots=slots, rank=rank, content_slots=2, half_life_days=5.0)
    batch = random_batch()
    real = (batch.user.history > 0).long()
    new, old = (
        model.encode(replace(batch.user, ages=age * real))["counts"] for age in (1, 30)
    )  # a few seconds and 20 days
    length = real.sum(1).double()
    torch.testing.assert_close(new[:, -2:].sum(1), 2 * length, rtol=1e-3, atol=0)
    assert (old[1:, -2:].sum(1) < 0.1 * 2 * length[1:]).all()
    assert (old[1:, -2:].sum(1) > 0).all()
    assert torch.equal(old[:, :-2], new[:, :-2])


# Where absorption is exact (section 3 of the paper asks for one sign pattern; one-sparse columns have it)


@each_form
@pytest.mark.parametrize("rank", [1, 4, 5, 12])
def test_absorption_is_exact_for_one_sparse_columns_of_weight_1(form: str, rank: int):
    model, batch = lrea(form=form, graph="decompressed", rank=rank), random_batch()
    torch.nn.init.normal_(
        position_slots(model).w_comp
    )  # only W_decomp matters, so any W_comp will do
    torch.testing.assert_close(trained(model, batch), served(model, batch))


@pytest.mark.parametrize("init", ["block", "gaussian"])
def test_absorption_is_not_exact_for_dense_columns(init: str):
    model, batch = lrea(graph="decompressed", init=init), random_batch()
    weight = position_slots(model).w_decomp_raw
    with torch.no_grad():
        weight.add_(torch.randn(weight.shape))
    gap = (trained(model, batch) - served(model, batch)).abs()
    assert gap[0].max() < 1e-12  # the user without a history has nothing to absorb
    assert gap[1:].max() > 1e-3


def test_absorption_is_exact_for_any_columns_where_the_activation_is_linear():
    config = {"graph": "decompressed", "form": "split", "exact_target": True, "init": "gaussian"}
    model, batch = lrea(**config, slope=1.0), random_batch()
    torch.testing.assert_close(trained(model, batch), served(model, batch))


@pytest.mark.parametrize("exact_target", [True, False])
def test_absorption_keeps_the_split_forms_target_term_only_with_the_sum(
    exact_target: bool,
):
    """W_2 and W_3 are zero, so only the target's own term is left; W_decomp is dense and signed."""
    model = lrea(
        graph="decompressed", form="split", init="gaussian", exact_target=exact_target, slope=0.1
    )
    torch.nn.init.zeros_(model.attention.w_2)
    torch.nn.init.zeros_(model.attention.w_3)
    batch = random_batch()
    is_equal = torch.allclose(trained(model, batch), served(model, batch), atol=1e-10)
    assert is_equal == exact_target


def test_softmax_columns_make_the_target_term_exact_without_the_sum():
    model = lrea(
        graph="decompressed", form="split", init="gaussian", decompression="softmax", slope=0.1
    )
    torch.nn.init.zeros_(model.attention.w_2)
    torch.nn.init.zeros_(model.attention.w_3)
    batch = random_batch()
    torch.testing.assert_close(trained(model, batch), served(model, batch))


# Learning rates and options


def test_position_matrices_learn_at_their_own_rate():
    model = lrea(position_lr=0.03)
    fast, slow = model.parameter_groups(0.5)
    assert slow["lr"] == pytest.approx(0.015)
    assert fast["lr"] == 0.5
    slots = position_slots(model)
    assert {id(p) for p in slow["params"]} == {id(slots.w_comp), id(slots.w_decomp_raw)}


@pytest.mark.parametrize("slots", ["content", "hash", "hybrid"])
def test_other_slots_learn_at_the_full_rate(slots: str):
    (group,) = lrea(slots=slots, content_slots=2).parameter_groups(0.5)
    assert group["lr"] == 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"slots": "content", "graph": "decompressed"},
            "graph: got 'decompressed', expected 'absorbed' with slots = 'content'",
        ),
        ({"slots": "hash", "nonneg": 0.1}, "nonneg: got 0.1, expected 0 with slots = 'hash'"),
        (
            {"slots": "hash", "form": "split"},
            "form: got 'split', expected 'concat' with slots = 'hash'",
        ),
        ({"exact_target": True}, "exact_target: got true, expected false: only form = 'split'"),
        (
            {"slots": "hybrid", "content_slots": 2, "form": "split"},
            "form: got 'split', expected 'concat' with slots = 'hybrid'",
        ),
        ({"families": [["item", 4]]}, "families: only for slots = 'hash' or 'hybrid'"),
        ({"slots": "content", "half_life_days": 9.0}, "half_life_days: only for slots = 'hash'"),
        ({"slots": "hash", "hard": True}, "hard: only for slots = 'content' or 'hybrid'"),
        ({"slots": "hash", "init": "gaussian"}, "init: only for slots = 'position', got 'hash'"),
        ({"slots": "content", "families": [["item", 4]]}, "families: only for slots = 'hash'"),
        (
            {"slots": "hash", "families": [["item", 2], ["brand", 2]]},
            r"families: got \['brand'\], expected item fields among \['item', 'category', 'popularity'\]",
        ),
        (
            {"slots": "hash", "families": [["item", 2], ["category", 1]]},
            "expected slots that sum to 4",
        ),
        (
            {"slots": "hybrid", "content_slots": 1, "families": [["item", 4]]},
            "expected slots that sum to 3",
        ),
        ({"slots": "hash", "rank": 1}, "rank: got 1, expected at least one slot for 2 families"),
        (
            {"slots": "hybrid", "content_slots": 3},
            "rank: got 1, expected at least one slot for 2 families",
        ),
        (
            {"slots": "hybrid", "content_slots": 0},
            "content_slots: got 0, expected 1 to rank - 1 = 3",
        ),
        (
            {"slots": "hybrid", "content_slots": 4},
            "content_slots: got 4, expected 1 to rank - 1 = 3",
        ),
        (
            {"slots": "hash", "half_life_days": -1.0},
            r"half_life_days: got -1\.0, expected 0 or more",
        ),
        ({"slots": "hash", "families": [["item", 4], ["category", 0]]}, "at least 1 slot"),
        ({"slots": "hash", "families": [["item", 5], ["category", -1]]}, "at least 1 slot"),
        ({"rank": 0}, "rank: got 0, expected at least 1"),
        ({"heads": 3}, "heads: got 3, expected a divisor of hidden = 16"),
    ],
)
def test_options_that_contradict_each_other_are_refused(config: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        lrea(**config)


ITEM, CATEGORY, POPULARITY = SCHEMA.item_fields


@pytest.mark.parametrize(
    ("fields", "rank", "expected"),
    [
        (SCHEMA.item_fields, 9, (Family(-1, 30, 8), Family(1, 7, 1))),
        ((ITEM, POPULARITY), 9, (Family(-1, 30, 9),)),
        ((ITEM, POPULARITY, Field("brand", 29)), 4, (Family(-1, 30, 2), Family(2, 29, 2))),
        (
            (ITEM, Field("brand", 99), CATEGORY),
            8,
            (Family(-1, 30, 3), Family(1, 99, 4), Family(2, 7, 1)),
        ),
    ],
)
@pytest.mark.parametrize("slots", ["hash", "hybrid"])
def test_default_families_are_the_item_and_each_field_but_the_popularity(
    slots: str, fields, rank: int, expected
):
    schema = replace(SCHEMA, item_fields=fields)
    config = {**SIZES, "rank": rank + 3 * (slots == "hybrid"), "slots": slots, "content_slots": 3}
    model = build_model("lrea", schema, item_fields(schema), config)
    assert isinstance(model, LREA)
    hashed = model.slots.hashed if isinstance(model.slots, HybridSlots) else model.slots
    assert isinstance(hashed, HashSlots)
    assert hashed.families == expected
    assert model.slots.rank == config["rank"]


def test_a_slot_has_as_many_numbers_as_an_embedding_of_an_event():
    """Keys, their counts, sums of embeddings, and the number of events."""
    table, keys, sums, counts = lrea(slots="hash").state_spec()[1:]
    assert table.shape == keys.shape == (4, 7)
    assert (sums.shape, counts.shape) == ((4, 7 + 7 + 1 + 1), (4,))


def test_rare_items_that_share_an_id_have_separate_counts():
    """Items from 5 on have the id UNKNOWN, and 5 and 6 have the same fields: only the catalogue rows differ."""
    schema = replace(SCHEMA, item_fields=(Field("item", 5), *SCHEMA.item_fields[1:]))
    fields = item_fields()
    fields[5:, 0] = 1
    fields[5:7] = torch.tensor([1, 3, 2])
    model = build_model("lrea", schema, fields, {**SIZES, "rank": 4, "slots": "hash"})
    assert isinstance(model, LREA)
    batch = random_batch(users=1)
    history = torch.zeros_like(batch.user.history)
    history[:, -3:] = 5
    state = model.encode(replace(batch.user, history=history, ages=(history > 0).long()))
    rows = torch.tensor([[5, 6]])
    _, scalars = model.slots.own(state, rows, model.frame.items(rows))
    assert torch.expm1(scalars[0, :, 0]).round(decimals=3).tolist() == [3, 0]
