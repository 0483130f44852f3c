"""SUAN and LightSUAN: blocks against their equations, packed against one by one, teacher against student."""

from dataclasses import replace

import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from builder.export.onnx import build_graphs
from models.batch import Batch, Slate, User
from models.blocks.causal_attention import (
    QKV,
    RelativeBias,
    dense_attention,
    gap_buckets,
    seen_from,
    sparse_attention,
)
from models.blocks.uab import Norm, UnifiedAttentionBlock
from models.registry import build_model
from models.sequence.light_suan import LightSUAN
from models.sequence.suan import SUAN
from tests.cases import SCHEMA, SIZES, item_fields, random_batch

HEADS, WIDTH = 2, 3


def suan(name: str = "suan", **config: object) -> SUAN:
    """Double precision, with weights that matter."""
    model = build_model(name, SCHEMA, item_fields(), {**SIZES, "blocks": 3, **config})
    assert isinstance(model, SUAN)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in (*model.bias.parameters(), model.places):
            parameter.normal_()
    return model.double().eval()


def taught(**config: object) -> LightSUAN:
    chosen = {
        "teacher_blocks": 2,
        "teacher_item_dim": 16,
        "window": 2,
        "stride": 3,
        "must_lead": False,
    }
    model = suan("light_suan", **{**chosen, **config})
    assert isinstance(model, LightSUAN)
    return model.train()


# Attention among events


def random_attention(length: int) -> tuple[QKV, Tensor, RelativeBias]:
    torch.manual_seed(length)
    query, key, value = torch.randn(3, 2, HEADS, length, WIDTH, dtype=torch.float64)
    ages = torch.randint(1, 50, (2, length)).sort(1, descending=True).values
    ages[1, : length // 3] = 0  # padding
    bias = RelativeBias(length).double()
    torch.nn.init.normal_(bias.distance)
    torch.nn.init.normal_(bias.gap)
    return (query, key, value), ages, bias


def by_loops(qkv: QKV, ages: Tensor, bias: RelativeBias, window: int, stride: int) -> Tensor:
    """softmax over the allowed j of q_i·k_j/√d + p[i − j] + s[bucket], event by event; zeros for padding."""
    query, key, value = qkv
    out = torch.zeros_like(query)
    B, H, N, width = query.shape
    gaps, last = gap_buckets(), len(bias.distance) - 1
    for b in range(B):
        for i in range(N):
            allowed = [
                j for j in range(i + 1)
                if ages[b, j] > 0 and (i - j < window or (i - j) % stride == 0)
            ]  # fmt: skip
            for h in range(H if ages[b, i] else 0):
                logits = torch.stack([
                    query[b, h, i] @ key[b, h, j] / width**0.5
                    + bias.distance[last - (i - j)] + bias.gap[gaps[ages[b, i], ages[b, j]]]
                    for j in allowed
                ])  # fmt: skip
                out[b, h, i] = logits.softmax(0) @ value[b, h, allowed]
    return out


def is_real(ages: Tensor) -> Tensor:
    return (ages > 0)[:, None, :, None]


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_dense_attention_is_its_equation(length: int):
    qkv, ages, bias = random_attention(length)
    expected = by_loops(qkv, ages, bias, window=0, stride=1)
    got = dense_attention(qkv, ages, bias)
    torch.testing.assert_close(got * is_real(ages), expected)


@given(length=st.integers(1, 14), window=st.integers(1, 15), stride=st.integers(1, 15))
def test_sparse_attention_is_its_equation(length: int, window: int, stride: int):
    qkv, ages, bias = random_attention(length)
    expected = by_loops(qkv, ages, bias, window, stride)
    got = sparse_attention(qkv, ages, bias, window=window, stride=stride)
    torch.testing.assert_close(got * is_real(ages), expected)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (12, 5), (40, 40)])
def test_every_event_by_stride_or_by_window_is_dense_attention(window: int, stride: int):
    qkv, ages, bias = random_attention(12)
    got = sparse_attention(qkv, ages, bias, window=window, stride=stride)
    dense = dense_attention(qkv, ages, bias)
    torch.testing.assert_close(got * is_real(ages), dense * is_real(ages))


def test_without_a_bias_it_is_plain_causal_attention():
    qkv, ages, bias = random_attention(9)
    ages[ages == 0] = 49
    torch.nn.init.zeros_(bias.distance)
    torch.nn.init.zeros_(bias.gap)
    query, key, value = qkv
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(dense_attention(qkv, ages, bias), plain)


def test_the_bias_knows_distance_and_gap_alone():
    bias = RelativeBias(20).double()
    torch.nn.init.normal_(bias.distance)
    pairs = torch.tensor([[9, 3], [30, 24]])  # other ages, other gaps
    distance = torch.tensor(5)
    first, second = (bias(distance, i, j) for i, j in pairs)
    swapped = bias(distance, pairs[0, 1], pairs[0, 0])
    assert first == swapped
    assert first != second
    assert bias(torch.tensor(6), *pairs[0]) - first == bias.distance[13] - bias.distance[14]


def test_gaps_are_bucketed_as_released():
    """A day and none is 37, an hour and none 27 (digest); ages are known to half an octave, so within one."""
    gaps = gap_buckets()
    assert (gaps.diagonal() == 0).all()
    hour, day = 12, 21
    assert abs(int(gaps[1, hour]) - 27) <= 1
    assert abs(int(gaps[1, day]) - 37) <= 1


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (0, 1, [0, 1, 2, 3, 4, 5, 6]),
        (3, 1, [0, 1, 2, 3, 4, 5, 6]),
        (3, 4, [3, 5, 6]),
        (2, 3, [1, 4, 6]),
    ],
)
def test_a_candidate_sees_the_nearest_and_every_rth(window: int, stride: int, expected: list[int]):
    """Seven events; the candidate is one after the last, and itself one of its window."""
    assert seen_from(7, window, stride).tolist() == expected


# The block


def block(norm: Norm = "pre") -> UnifiedAttentionBlock:
    torch.manual_seed(0)
    made = UnifiedAttentionBlock(dim=8, profile_dim=3, heads=2, norm=norm, dropout=0.0)
    return made.double()


@pytest.mark.parametrize("norm", ["pre", "released"])
def test_a_block_is_its_equations(norm: Norm):
    made = block(norm)
    for weight in made.norms.parameters():
        torch.nn.init.normal_(weight)
    x, attended, profile = (
        torch.randn(2, n, d, dtype=torch.float64) for n, d in ((5, 8), (5, 8), (4, 3))
    )
    pooled = torch.randn(2, 5, 8, dtype=torch.float64)
    n1, n2, n3 = made.norms
    if norm == "pre":
        s = x + attended @ made.out.weight.T
        v = n2(s)
    else:
        v = s = n2(n1(x) + attended @ made.out.weight.T)
    logit = (v @ made.cross.query.weight.T).view(2, 5, 2, 4).transpose(1, 2)
    key, value = (
        (profile @ part.weight.T).view(2, 4, 2, 4).transpose(1, 2)
        for part in (made.cross.key, made.cross.value)
    )
    read = (logit @ key.mT / 2).softmax(-1) @ value
    c = read.transpose(1, 2).reshape(2, 5, 8) @ made.cross.out.weight.T
    z = (pooled @ made.squeeze.weight.T).relu() @ made.excite.weight.T
    a1 = z[..., :8].exp() / (z[..., :8].exp() + z[..., 8:].exp())
    f = a1 * v + (1 - a1) * c
    w = s + f if norm == "pre" else n3(v + f)
    u = n3(w) if norm == "pre" else w
    inner = F.silu(made.swiglu.gate(u)) * made.swiglu.up(u)
    expected = w + made.swiglu.down(inner)
    torch.testing.assert_close(
        made.finish(*made.align(made.enter(x)[0], attended, profile), pooled), expected
    )


def test_the_order_of_profile_fields_does_not_matter():
    made, x = block(), torch.randn(2, 5, 8, dtype=torch.float64)
    profile = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(made.cross(x, profile), made.cross(x, profile[:, [2, 0, 3, 1]]))


def test_the_shares_of_the_gate_sum_to_one_per_channel():
    made = block()
    same, pooled = torch.randn(2, 2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(made.fuse(same, same, pooled), same)


@pytest.mark.parametrize("norm", ["pre", "released"])
def test_a_block_has_the_documented_number_of_weights(norm: Norm):
    dim, width = 40, 8
    made = UnifiedAttentionBlock(dim=dim, profile_dim=width, heads=2, norm=norm, dropout=0.0)
    expected = 15.75 * dim**2 + 2 * width * dim + 10 * dim
    assert sum(weight.numel() for weight in made.parameters()) == expected


# The model


def one_by_one(model: SUAN, batch: Batch) -> Tensor:
    """Each candidate in a pass of its own over the events."""
    user = batch.user
    length = model.length
    state = {
        "profile": model.frame.profile(user.fields),
        "rows": user.history[:, -length:], "event_ages": user.ages[:, -length:],
    }  # fmt: skip
    target = model.frame.items(batch.slate.items)
    long = model.target_rows_one_by_one(state, target)
    return model.frame.logits(state["profile"], batch.context, target, long)


PREFIX = [
    ("suan", {}),
    ("suan", {"norm": "released"}),
    ("suan", {"length": 5}),
    ("light_suan", {"window": 3, "stride": 4, "target_stride": 0}),
    ("light_suan", {"window": 1, "stride": 3, "target_stride": 0, "norm": "released"}),
    ("light_suan", {"window": 4, "stride": 40, "target_stride": 0}),
    ("light_suan", {"window": 2, "stride": 4}),
    ("suan", {"target_window": 2, "target_stride": 5}),
]


@pytest.mark.parametrize(("name", "config"), PREFIX)
def test_candidates_packed_against_the_cached_state_score_as_one_by_one(name: str, config):
    model, batch = suan(name, **config), random_batch()
    packed = model(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(packed, one_by_one(model, batch), rtol=0, atol=1e-9)
    order = [4, 2, 0, 1, 3]
    shuffled = model(batch.user, batch.context, Slate(batch.slate.items[:, order]))
    torch.testing.assert_close(shuffled, packed[:, order], rtol=0, atol=1e-9)


def test_a_candidate_may_see_more_or_fewer_events_than_events_do():
    """Which decides what the state keeps."""
    dense, sparse = (
        suan("light_suan", window=2, stride=4, target_stride=1),
        suan(target_window=3, target_stride=40),
    )
    assert dense.get_buffer("kept").tolist() == list(range(12))
    assert sparse.get_buffer("kept").tolist() == [10, 11]
    shapes = {tensor.name: tensor.shape for tensor in sparse.state_spec()}
    assert shapes["block_keys"] == (3 * 2, sparse.frame.items.dim)


def test_the_released_gate_needs_a_pass_for_each_candidate():
    """Its own graph is one by one; events move with the candidate, so it is not what a prefix gate computes."""
    released, prefix, batch = suan(gate="mean"), suan(), random_batch()
    got = released(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(got, one_by_one(released, batch))
    assert (got - prefix(batch.user, batch.context, batch.slate)).abs().max() > 1e-5


@pytest.mark.parametrize(("name", "config"), PREFIX)
def test_an_event_never_alters_what_came_before_it(name: str, config):
    """Two other newest events: the keys of all others stay. Padding's are never read, and may be anything."""
    model, batch = suan(name, **config), random_batch()
    rows = batch.user.history.clone()
    rows[:, -2:] = 7
    before = model.encode(batch.user)
    after = model.encode(User(rows, batch.user.ages, batch.user.fields))
    kept = model.get_buffer("kept")
    earlier = ((kept < model.length - 2) & (before["event_ages"] > 0))[..., None]  # (B, K, 1)
    for name in ("block_keys", "block_values"):
        for old, new in zip(before[name].chunk(3, 1), after[name].chunk(3, 1), strict=True):
            torch.testing.assert_close(old * earlier, new * earlier)
    assert not torch.allclose(before["gate_sums"], after["gate_sums"])


def test_a_longer_history_than_it_reads_changes_nothing():
    model, batch = suan(length=4), random_batch()
    older = batch.user.history.clone()
    older[:, :-4] = 9
    changed = replace(batch.user, history=older)
    got = model(changed, batch.context, batch.slate)
    torch.testing.assert_close(got, model(batch.user, batch.context, batch.slate))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"blocks": 0}, "blocks: got 0, expected at least 1"),
        ({"stride": 0}, "stride: got 0, expected at least 1"),
        ({"window": -1}, "window: got -1, expected at least 0"),
        ({"block_heads": 3}, "heads: got 3, expected a divisor of an event's width = 16"),
        ({"temperature": 0.0}, r"temperature: got 0\.0, expected more than 0"),
        ({"alpha": -1.0}, r"alpha: got -1\.0, expected 0 or more"),
    ],
)
def test_impossible_sizes_are_refused(config, message: str):
    with pytest.raises(ValueError, match=message):
        suan("light_suan", **config)


# Distillation


def gradients(model: LightSUAN, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_teacher_learns_nothing_from_its_student():
    model, batch = taught(), random_batch()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert out.penalty is not None
    moved = gradients(model, out.penalty)
    assert moved
    assert not [name for name in moved if name.startswith("teacher.")]


def test_the_penalty_is_the_softened_cross_entropy_times_alpha_t_squared():
    model, batch = taught(temperature=2.0, alpha=0.5), random_batch()
    model.eval()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    student, teacher = out.logits / 2, (out.auxiliary[0] / 2).sigmoid()
    loss = -(teacher * student.sigmoid().log() + (1 - teacher) * (-student).sigmoid().log())
    real = batch.slate.items > 0
    torch.testing.assert_close(out.penalty, 0.5 * 4 * loss[real].mean())


def test_a_teacher_that_must_lead_teaches_only_when_its_probabilities_spread_wider():
    model, batch = taught(must_lead=True), random_batch()
    always = taught()
    assert model.teacher is not None
    penalties = []
    for scale in (0.0, 100.0):  # of the teacher's logits
        for one in (model, always):
            assert one.teacher is not None
            head = one.teacher.frame.head.out
            with torch.no_grad():
                head.weight.fill_(0.01 * scale)
                head.bias.zero_()
            penalties.append(one.train_forward(batch.user, batch.context, batch.slate).penalty)
    behind, behind_always, ahead, ahead_always = penalties
    assert behind == 0
    assert behind_always is not None
    assert behind_always > 0
    torch.testing.assert_close(ahead, ahead_always)


def test_the_teacher_learns_at_its_own_rate_and_both_models_blocks_more_slowly():
    model = taught(teacher_lr=0.5)
    rates = {
        id(weight): group["lr"] for group in model.parameter_groups(0.2) for weight in group["params"]
    }  # fmt: skip
    named = {name: rates[id(weight)] for name, weight in model.named_parameters()}
    assert len(rates) == len(named)
    assert named["frame.head.out.weight"] == 0.2
    assert named["blocks.0.query.weight"] == pytest.approx(0.06)
    assert named["teacher.frame.head.out.weight"] == 0.1
    assert named["teacher.blocks.0.query.weight"] == pytest.approx(0.03)


def test_a_student_of_weight_zero_is_a_student_alone():
    """Same initial weights, same logits, no pull."""
    model, alone = taught(alpha=0.0), suan("light_suan", window=2, stride=3).train()
    batch = random_batch()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert out.penalty == 0
    torch.testing.assert_close(
        out.logits, alone.train_forward(batch.user, batch.context, batch.slate).logits
    )
    names = {name for name in model.state_dict() if not name.startswith("teacher.")}
    assert names == set(alone.state_dict())


def test_the_teacher_may_see_more_of_the_history_than_its_student():
    model, batch = taught(length=3), random_batch()
    model.eval()
    older = batch.user.history.clone()
    older[:, :-3] = 9
    first, second = (
        model.train_forward(user, batch.context, batch.slate)
        for user in (batch.user, replace(batch.user, history=older))
    )
    torch.testing.assert_close(first.logits, second.logits)
    assert not torch.allclose(first.auxiliary[0], second.auxiliary[0])


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_the_teacher_is_in_no_graph():
    model = taught().eval().float()
    graphs = build_graphs(model, random_batch(users=2, candidates=2))
    names = {
        weight.name
        for graph in (graphs.encode, graphs.score)
        for weight in onnx.load_model_from_string(graph).graph.initializer
    }
    assert any("blocks" in name for name in names)
    assert not any("teacher" in name for name in names)
