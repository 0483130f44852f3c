"""What all models of readers share: parts by length, shared states, counts."""

from dataclasses import replace

import pytest
import torch

from models.batch import Slate, User
from models.blocks.attention.kernel import FieldKernel
from models.contract.schema import Field
from models.registry import build_model
from models.sequence import by_length
from models.sequence.sequence_model import SequenceModel
from tests.cases import SCHEMA, SIZES, item_fields, random_batch, small

CONFIGS: list[tuple[str, dict[str, object]]] = [
    ("din", {"score": "kernel", "counts": "exact"}),
    ("lrea", {"rank": 4, "counts": "table", "table_size": 8}),
    ("lrea", {"rank": 4, "slots": "position", "graph": "decompressed", "nonneg": 0.1}),
    ("sim", {"search": "soft", "k": 3}),
]


def build(name: str, config: dict[str, object]) -> SequenceModel:
    model = build_model(name, SCHEMA, item_fields(), {**SIZES_OF[name], **config})
    assert isinstance(model, SequenceModel)
    return model.double().eval()


SIZES_OF = {
    "din": {key: SIZES[key] for key in ("item_dim", "field_dim", "hidden", "heads", "mlp")},
    "lrea": {key: SIZES[key] for key in ("item_dim", "field_dim", "hidden", "heads", "mlp")},
    "sim": {key: SIZES[key] for key in ("item_dim", "field_dim", "hidden", "heads", "mlp")},
}


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_parts_of_like_lengths_give_what_the_whole_batch_gives(monkeypatch, name, config):
    model, batch = build(name, config), random_batch(users=7)
    outputs = []
    for candidates in (1 << 20, 10, 1):
        monkeypatch.setattr(by_length, "PART", candidates)
        outputs.append(model.train_forward(batch.user, batch.context, batch.slate))
    for other in outputs[1:]:
        torch.testing.assert_close(other.logits, outputs[0].logits)
        torch.testing.assert_close(other.auxiliary, outputs[0].auxiliary)
        assert (other.penalty is None) == (outputs[0].penalty is None)
        if other.penalty is not None:
            torch.testing.assert_close(other.penalty, outputs[0].penalty)


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_forward_is_score_after_encode(name, config):
    model, batch = build(name, config), random_batch(users=7)
    cut = model.score(model.encode(batch.user), batch.context, batch.slate)
    torch.testing.assert_close(model(batch.user, batch.context, batch.slate), cut)


def test_readers_of_the_history_share_its_state():
    names = [tensor.name for tensor in build(*CONFIGS[0]).state_spec()]
    assert names == ["profile", "rows", "event_ages"]
    names = [tensor.name for tensor in build(*CONFIGS[1]).state_spec()]
    expected = ["profile", "slot_means", "slot_counts", "table_items", "table_sums", "sketch"]
    assert names == expected


def test_a_log_without_item_fields_counts_items():
    fields = (Field("item", 30),)
    schema = replace(SCHEMA, item_fields=fields)
    batch = random_batch(schema)
    for counts in ("exact", "sketch", "table"):
        config = {**SIZES_OF["lrea"], "rank": 4, "counts": counts}
        model = build_model("lrea", schema, item_fields(schema), config)
        assert model(batch.user, batch.context, batch.slate).isfinite().all()


def test_candidate_fields_change_scores():
    schema = replace(SCHEMA, candidate_fields=(Field("display", 4),))
    batch = random_batch(schema)
    model = build_model("lrea", schema, item_fields(), {**SIZES_OF["lrea"], "rank": 4}).eval()
    other = Slate(batch.slate.items, 3 - batch.slate.fields % 3)
    assert not torch.allclose(
        model(batch.user, batch.context, batch.slate), model(batch.user, batch.context, other)
    )


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_empty_histories_have_finite_gradients(name, config):
    model, batch = build(name, config).train(), random_batch()
    nothing = torch.zeros_like(batch.user.history)
    out = model.train_forward(User(nothing, nothing, batch.user.fields), batch.context, batch.slate)
    torch.stack([out.logits, *out.auxiliary]).sum().backward()
    assert out.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("lrea", {"rank": 0}, "rank: got 0, expected at least 1"),
        ("lrea", {"init": "gaussian"}, "init: only for slots = 'position', got 'content'"),
        (
            "lrea",
            {"nonneg": 0.1, "slots": "hash"},
            "nonneg: only for slots = 'position', got 'hash'",
        ),
        ("din", {"hidden": 7}, "heads: got 2, expected a divisor of hidden = 7"),
        ("din", {"cells": 0}, "cells: got 0, expected at least 1"),
        ("sim", {"category": "category"}, "expected none with search = 'soft'"),
        ("sim", {"search": "hard", "category": "x"}, "category: got 'x', expected an item field"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        build(name, config)


def test_hard_search_needs_a_field_to_compare():
    schema = replace(SCHEMA, item_fields=(Field("item", 30), Field("popularity", 5)))
    config = {**SIZES_OF["sim"], "search": "hard"}
    with pytest.raises(ValueError, match="search: got 'hard', expected 'soft'"):
        build_model("sim", schema, item_fields(schema), config)


def test_position_matrices_learn_at_their_own_rate():
    model = build("lrea", {"rank": 4, "slots": "position", "position_lr": 0.5})
    fast, slow = model.parameter_groups(0.2)
    assert (fast["lr"], slow["lr"]) == (0.2, 0.1)
    assert len(slow["params"]) == 2


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, (("item",), ("category",))),
        (2, (("item", "category"), ())),
        (4, (("item", "category"), ())),
    ],
)
def test_heads_start_with_the_first_matched_fields(
    heads: int, expected: tuple[tuple[str, ...], tuple[str, ...]]
):
    model = build("lrea", {"rank": 4, "slots": "items", "heads": heads})
    assert model.head_fields == expected
    tau = next(part for part in model.readers.modules() if isinstance(part, FieldKernel)).tau()
    own = len(expected[0])
    assert tau[:own].argmax(1).tolist() == list(range(own))


def test_a_model_that_does_not_attend_by_field_has_no_head_fields():
    model = build_model("mean_pool", SCHEMA, item_fields(), small("mean_pool"))
    assert isinstance(model, SequenceModel)
    assert model.head_fields is None
