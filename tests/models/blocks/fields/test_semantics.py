"""LLaCTR's two enhancements, as blocks and in every field model."""

from dataclasses import replace

import pytest
import torch

from models.blocks.fields.pairs import pair_places, upper
from models.blocks.fields.semantics import FieldSemantics, SemanticsConfig
from models.contract.schema import FeatureSchema, Field
from tests.cases import SCHEMA, random_batch
from tests.models.field.by_pairs import by_pairs, dot, embedded, field_model, logits_of

K, D = 5, 3
PLACED = replace(SCHEMA, candidate_fields=(Field("display", 4), Field("mailer", 3)))
each_schema = pytest.mark.parametrize(
    "schema", [SCHEMA, PLACED], ids=["no candidate fields", "candidate fields"]
)


@pytest.mark.parametrize("name", ["fm", "deep_fm", "fwfm", "fmfm", "final_mlp", "wukong"])
@each_schema
def test_fie_weighs_each_pair_by_the_similarity_of_its_fields(name: str, schema: FeatureSchema):
    """The enhanced model's logit minus the plain one's is λ_fm·Σ m_kl <e_k, e_l>."""
    plain, batch = field_model(name, schema), random_batch(schema)
    enhanced = field_model(name, schema, llm_dim=7, fie=0.5)
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
    """FRE of the embeddings of N clicks, [N, K, D], each counted once."""
    N, size, _ = embedded.shape
    rows, field = embedded.flatten(0, 1), torch.arange(size).repeat(N)
    return own.alignment(rows, torch.ones(N * size).double(), field, num_clicks=N)


def semantics(**config) -> FieldSemantics:
    torch.manual_seed(0)
    return FieldSemantics(K, D, SemanticsConfig(llm_dim=4, **config)).double()


def test_fre_is_the_kl_divergence_of_embeddings_and_fields():
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
def test_the_loss_is_zero_where_embeddings_equal_their_fields(kind):
    own = semantics(fre=1.0, alignment=kind)
    assert own.to_embedding is not None
    target = own.to_embedding(own.get_buffer("vectors")).detach()
    assert pull(own, target.expand(2, K, D)).item() == pytest.approx(0, abs=1e-12)
    assert pull(own, torch.roll(target, 1, 0).expand(2, K, D)) > 1e-3


def test_the_contrastive_loss_prefers_the_own_field():
    own = semantics(fre=1.0, alignment="contrastive")
    assert own.to_embedding is not None
    target = own.to_embedding(own.get_buffer("vectors")).detach()
    right, wrong = (pull(own, x.expand(2, K, D)) for x in (target, torch.roll(target, 1, 0)))
    assert right < wrong


def test_frozen_adaptors_are_not_trained_and_free_pairs_have_no_adaptor():
    frozen = semantics(fre=1.0, fie=1.0, adaptors="frozen")
    assert not any(weight.requires_grad for weight in frozen.parameters())
    free = semantics(fie=1.0, pairs="free")
    assert [name for name, _ in free.named_parameters()] == ["free"]
    assert not free.pair_weights().any()
    with pytest.raises(ValueError, match="expected a weight other than 0"):
        semantics(fre=1.0).pair_weights()


def test_field_vectors_of_another_shape_are_refused():
    own = semantics(fie=1.0)
    own.set_vectors(torch.ones(K, 4))
    assert own.get_buffer("vectors").eq(1).all()
    with pytest.raises(ValueError, match=r"got shape \[5, 3\], expected \[5, 4\]"):
        own.set_vectors(torch.ones(K, 3))


def test_the_zero_alignment_is_a_decay_without_field_vectors():
    own = semantics(fre=0.3, alignment="zero")
    assert not list(own.parameters())
    embedding = torch.randn(6, K, D, dtype=torch.float64)
    torch.testing.assert_close(pull(own, embedding), 0.3 * embedding.square().sum() / 6)


@pytest.mark.parametrize("name", ["fm", "wukong"])
def test_constant_pairs_add_one_constant_to_every_logit(name: str):
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
@each_schema
def test_fre_is_the_same_for_whole_tables_and_for_looked_up_rows(
    alignment: str, candidates: int, schema: FeatureSchema
):
    """With few clicks, rows are looked up; with many, most tables are read whole. The loss is the same."""
    model = field_model("fm", schema, llm_dim=7, fre=0.3, alignment=alignment)
    batch = random_batch(schema, candidates=candidates)
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert model.semantics is not None
    expected = pull(model.semantics, embedded(model, batch).flatten(0, 1))
    assert out.penalty is not None
    torch.testing.assert_close(out.penalty, expected)
