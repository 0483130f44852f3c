"""Field models: each interaction against its equation written as loops, the cut, and LLaCTR's two enhancements."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.batch import Slate
from models.blocks.field_pairs import matrix_pairs, pair_places, sum_pairs, upper, weighted_pairs
from models.blocks.field_semantics import FieldSemantics, SemanticsConfig
from models.field.base import FieldModel
from models.field.deep_fm import DeepFM
from models.field.final_mlp import FinalMLP
from models.field.fm import FM
from models.field.fmfm import FmFM
from models.field.fwfm import FwFM
from models.field.wukong import WuKong
from models.registry import build_model
from tests.cases import SCHEMA, item_fields, random_batch, small

K, D = 5, 3
SPLITS = [
    SCHEMA,
    replace(SCHEMA, user_fields=()),
    replace(SCHEMA, context_fields=()),
    replace(SCHEMA, item_fields=SCHEMA.item_fields[:1]),
]


def field_model(name: str, schema=SCHEMA, **config: object) -> FieldModel:
    """Double precision, with weights that matter."""
    fields = item_fields(schema)
    model = build_model(name, schema, fields, {**small(name), "embedding_std": 0.5, **config})
    assert isinstance(model, FieldModel)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for table in (m for m in model.modules() if isinstance(m, torch.nn.Embedding)):
            table.weight[0].zero_()
    return model.double().eval()


def embedded(model: FieldModel, batch) -> Tensor:
    """All fields of all candidates, [B, C, K, D]."""
    profile = model.frame.user(batch.user.fields)[:, None]
    online = model.frame.online(batch.context, batch.slate)
    return torch.cat([profile.expand(-1, online.shape[1], -1, -1), online], 2)


def first_order(model: FieldModel, batch) -> Tensor:
    return model.frame.user_linear(batch.user.fields) + model.frame.online_linear(
        batch.context, batch.slate
    )


def by_pairs(fields: Tensor, value: Callable[..., Tensor]) -> Tensor:
    """Σ over k < m of value(k, m, e_k, e_m), pair by pair."""
    size = fields.shape[2]
    total = torch.zeros(fields.shape[:2], dtype=fields.dtype)
    for k in range(size):
        for m in range(k + 1, size):
            total = total + value(k, m, fields[:, :, k], fields[:, :, m])
    return total


def dot(_k: int, _m: int, x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)


def logits_of(model: FieldModel, batch) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


def test_pairs_by_algebra_are_pairs_by_loops():
    torch.manual_seed(0)
    x = torch.randn(2, 4, K, D, dtype=torch.float64)
    torch.testing.assert_close(sum_pairs(x), by_pairs(x, dot))
    weight = torch.randn(K, K, dtype=torch.float64).triu(1)
    expected = by_pairs(x, lambda k, m, a, b: weight[k, m] * dot(k, m, a, b))
    torch.testing.assert_close(weighted_pairs(x, weight + weight.T), expected)
    pairs = torch.randn(K * (K - 1) // 2, D, D, dtype=torch.float64)
    matrices = upper(pairs, pair_places(K))
    place: dict[tuple[int, int], int] = {}
    for k in range(K):
        for m in range(k + 1, K):
            place[k, m] = len(place)
    expected = by_pairs(x, lambda k, m, a, b: ((a @ pairs[place[k, m]]) * b).sum(-1))
    torch.testing.assert_close(matrix_pairs(x, matrices), expected)


@pytest.mark.parametrize("schema", SPLITS, ids=["all", "no user", "no context", "no item"])
def test_fm_is_its_equation_wherever_it_is_cut(schema):
    model, batch = field_model("fm", schema), random_batch(schema)
    assert isinstance(model, FM)
    expected = first_order(model, batch) + by_pairs(embedded(model, batch), dot)
    torch.testing.assert_close(logits_of(model, batch), expected)


@pytest.mark.parametrize("schema", SPLITS, ids=["all", "no user", "no context", "no item"])
def test_fwfm_is_its_equation(schema):
    model, batch = field_model("fwfm", schema), random_batch(schema)
    assert isinstance(model, FwFM)
    fields, weight = embedded(model, batch), upper(model.pair_weights, model.get_buffer("places"))
    expected = model.frame.bias + (fields * model.first_order).sum((-2, -1))
    expected = expected + by_pairs(fields, lambda k, m, a, b: weight[k, m] * dot(k, m, a, b))
    torch.testing.assert_close(logits_of(model, batch), expected)


@pytest.mark.parametrize("schema", SPLITS, ids=["all", "no user", "no context", "no item"])
def test_fmfm_is_its_equation(schema):
    model, batch = field_model("fmfm", schema), random_batch(schema)
    assert isinstance(model, FmFM)
    matrices = upper(model.matrices, model.get_buffer("places"))
    expected = first_order(model, batch) + by_pairs(
        embedded(model, batch), lambda k, m, a, b: ((a @ matrices[k, m]) * b).sum(-1)
    )
    torch.testing.assert_close(logits_of(model, batch), expected)


def test_deep_fm_is_fm_and_a_tower_over_all_fields_side_by_side():
    model, batch = field_model("deep_fm"), random_batch()
    assert isinstance(model, DeepFM)
    fields, tower = embedded(model, batch), model.tower
    assert tower.user is not None
    x = fields.flatten(2) @ torch.cat([tower.user.weight, tower.online.weight], 1).T
    x = (x + tower.online.bias).relu()
    for layer in tower.hidden:
        x = layer(x).relu()
    deep = model.out(x).squeeze(-1)
    expected = first_order(model, batch) + by_pairs(fields, dot) + deep
    torch.testing.assert_close(logits_of(model, batch), expected)


def test_final_mlp_is_two_gated_towers_and_a_bilinear_form_by_heads():
    model, batch = field_model("final_mlp"), random_batch()
    assert isinstance(model, FinalMLP)
    flat, rows = embedded(model, batch).flatten(2), []
    for stream in (model.first, model.second):
        tower, gate = stream.tower, 2 * stream.gate(stream.given).sigmoid()
        assert tower.user is not None
        x = (flat * gate) @ torch.cat([tower.user.weight, tower.online.weight], 1).T
        x = (x + tower.online.bias).relu()
        for layer in tower.hidden:
            x = layer(x).relu()
        rows.append(x)
    first, second = rows
    expected = (model.first_out(first) + model.second_out(second)).squeeze(-1) + model.frame.bias
    for head, (a, b) in enumerate(zip(first.chunk(2, -1), second.chunk(2, -1), strict=True)):
        expected = expected + ((a @ model.fusion[head]) * b).sum(-1)
    torch.testing.assert_close(logits_of(model, batch), expected)


def test_wukongs_machine_is_xxt_projected():
    """The layer never makes XXᵀ; its first block is what it would be with it."""
    model = field_model("wukong")
    assert isinstance(model, WuKong)
    layer: Any = model.stack[0]
    x = torch.randn(4, model.frame.num_fields, model.frame.dim, dtype=torch.float64)
    crossed = torch.stack([row @ row.T @ layer.project for row in x])
    fm = layer.fm(layer.fm_norm(crossed.flatten(1))).view(4, layer.rows, layer.dim)
    linear = torch.einsum("sr,nrd->nsd", layer.compress.weight, x)
    rest = torch.einsum("sr,nrd->nsd", layer.residual.weight, x)
    expected = layer.norm(torch.cat([fm, linear], 1) + rest)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("name", ["fm", "deep_fm", "fwfm", "fmfm", "final_mlp", "wukong"])
def test_fie_weighs_every_pair_by_what_its_fields_have_in_common(name: str):
    """The enhanced model's logit less the plain one's is λ_fm·Σ m_kl <e_k, e_l>, wherever the fields are cut."""
    plain, batch = field_model(name), random_batch()
    enhanced = field_model(name, llm_dim=7, fie=0.5)
    enhanced.load_state_dict(plain.state_dict(), strict=False)
    semantics = enhanced.semantics
    assert semantics is not None
    assert semantics.rescale is not None
    vectors = semantics.get_buffer("vectors")
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    size = len(vectors)
    cosines = torch.stack([unit[k] @ unit[m] for k in range(size) for m in range(k + 1, size)])
    weight = upper(semantics.rescale(cosines), pair_places(size))
    extra = by_pairs(
        embedded(enhanced, batch), lambda k, m, a, b: 0.5 * weight[k, m] * dot(k, m, a, b)
    )
    assert extra.abs().min() > 1e-4
    torch.testing.assert_close(logits_of(enhanced, batch), logits_of(plain, batch) + extra)
    assert [tensor.name for tensor in enhanced.state_spec()][-1] == "semantic_pairs"


def pull(own: FieldSemantics, embedded: torch.Tensor) -> torch.Tensor:
    """FRE of clicks given whole, [N, K, D]: each embedding once."""
    N, size, _ = embedded.shape
    rows, field = embedded.flatten(0, 1), torch.arange(size).repeat(N)
    return own.alignment(rows, torch.ones(N * size).double(), field, num_clicks=N)


def semantics(**config) -> FieldSemantics:
    torch.manual_seed(0)
    return FieldSemantics(K, D, SemanticsConfig(llm_dim=4, **config)).double()


def test_fre_is_the_divergence_from_each_embedding_to_its_field():
    own = semantics(fre=0.3)
    embedding = torch.randn(6, K, D, dtype=torch.float64)
    assert own.to_embedding is not None
    target = own.to_embedding(own.get_buffer("vectors"))
    expected = torch.zeros((), dtype=torch.float64)
    for row in embedding:
        for k in range(K):
            e, h = row[k].softmax(0), target[k].softmax(0)
            expected = expected + 0.3 * (e * (e / h).log()).sum() / len(embedding)
    torch.testing.assert_close(pull(own, embedding), expected)
    reverse = pull(semantics(fre=0.3, alignment="reverse_kl"), embedding)
    assert reverse > 0
    assert (reverse - expected).abs() > 1e-3


@pytest.mark.parametrize("kind", ["kl", "reverse_kl", "mse"])
def test_embeddings_at_their_fields_have_nothing_to_lose(kind):
    own = semantics(fre=1.0, alignment=kind)
    assert own.to_embedding is not None
    target = own.to_embedding(own.get_buffer("vectors")).detach()
    assert pull(own, target.expand(2, K, D)).item() == pytest.approx(0, abs=1e-12)
    assert pull(own, torch.roll(target, 1, 0).expand(2, K, D)) > 1e-3


def test_contrast_is_least_where_each_embedding_is_its_own_fields():
    own = semantics(fre=1.0, alignment="contrastive")
    assert own.to_embedding is not None
    target = own.to_embedding(own.get_buffer("vectors")).detach()
    right, wrong = (pull(own, x.expand(2, K, D)) for x in (target, torch.roll(target, 1, 0)))
    assert right < wrong


def test_frozen_adaptors_do_not_learn_and_free_pairs_know_no_field():
    frozen = semantics(fre=1.0, fie=1.0, adaptors="frozen")
    assert not any(weight.requires_grad for weight in frozen.parameters())
    free = semantics(fie=1.0, pairs="free")
    assert [name for name, _ in free.named_parameters()] == ["free"]
    assert not free.pair_weights().any()
    with pytest.raises(ValueError, match="expected a weight other than 0"):
        semantics(fre=1.0).pair_weights()


def test_field_vectors_are_taken_whole_or_not_at_all():
    own = semantics(fie=1.0)
    own.set_vectors(torch.ones(K, 4))
    assert own.get_buffer("vectors").eq(1).all()
    with pytest.raises(ValueError, match=r"got shape \[5, 3\], expected \[5, 4\]"):
        own.set_vectors(torch.ones(K, 3))


def test_an_enhancement_without_field_vectors_is_refused():
    with pytest.raises(ValueError, match="llm_dim: got 0"):
        field_model("fm", fie=0.5)


def test_a_pull_to_zero_is_a_decay_that_no_field_vector_enters():
    own = semantics(fre=0.3, alignment="zero")
    assert not list(own.parameters())
    embedding = torch.randn(6, K, D, dtype=torch.float64)
    torch.testing.assert_close(pull(own, embedding), 0.3 * embedding.square().sum() / 6)


@pytest.mark.parametrize("name", ["fm", "wukong"])
def test_the_released_constant_moves_every_logit_as_much(name: str):
    plain, batch = field_model(name), random_batch()
    released = field_model(name, llm_dim=7, fie=0.5, pairs="constant")
    released.load_state_dict(plain.state_dict(), strict=False)
    assert released.semantics is not None
    constant = released.semantics.pair_weights().sum() / 2
    assert constant.abs() > 1e-3
    moved = logits_of(released, batch) - logits_of(plain, batch)
    torch.testing.assert_close(moved, constant.expand_as(moved))


@pytest.mark.parametrize("alignment", ["kl", "reverse_kl", "mse", "contrastive", "zero"])
@pytest.mark.parametrize("candidates", [2, 40])
def test_fre_of_whole_tables_is_that_of_every_click(alignment: str, candidates: int):
    """With few clicks most rows are looked up, with many most tables are read whole: the pull is the same."""
    model, batch = field_model("fm", llm_dim=7, fre=0.3, alignment=alignment), random_batch()
    items = torch.randint(2, SCHEMA.num_items, (len(batch.slate.items), candidates))
    batch = replace(batch, slate=Slate(items))
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert model.semantics is not None
    expected = pull(model.semantics, embedded(model, batch).flatten(0, 1))
    assert out.penalty is not None
    torch.testing.assert_close(out.penalty, expected)
