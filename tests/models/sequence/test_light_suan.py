"""LightSUAN: distillation from its teacher."""

from dataclasses import replace

import onnx
import pytest
import torch
from torch import Tensor

from models.contract.artifact import ENCODE, SCORE
from models.sequence.light_suan import LightSUAN
from tests.builds import Builds
from tests.cases import Case, random_batch
from tests.models.arrange import suan


def with_teacher(**config: object) -> LightSUAN:
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


def gradients(model: LightSUAN, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_teacher_learns_nothing_from_its_student():
    model, batch = with_teacher(), random_batch()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert out.penalty is not None
    moved = gradients(model, out.penalty)
    assert moved
    assert not [name for name in moved if name.startswith("teacher.")]


def test_the_penalty_is_the_softened_cross_entropy_times_alpha_t_squared():
    model, batch = with_teacher(temperature=2.0, alpha=0.5), random_batch()
    model.eval()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    student, teacher = out.logits / 2, (out.auxiliary[0] / 2).sigmoid()
    loss = -(teacher * student.sigmoid().log() + (1 - teacher) * (-student).sigmoid().log())
    real = batch.slate.items > 0
    torch.testing.assert_close(out.penalty, 0.5 * 4 * loss[real].mean())


def test_a_teacher_that_must_lead_teaches_only_with_the_larger_variance():
    model, batch = with_teacher(must_lead=True), random_batch()
    always = with_teacher()
    assert model.teacher is not None
    penalties = []
    for scale in (0.0, 100.0):  # factor on the teacher's logits
        for student in (model, always):
            assert student.teacher is not None
            head = student.teacher.frame.head.out
            with torch.no_grad():
                head.weight.fill_(0.01 * scale)
                head.bias.zero_()
            penalties.append(student.train_forward(batch.user, batch.context, batch.slate).penalty)
    behind, behind_always, ahead, ahead_always = penalties
    assert behind == 0
    assert behind_always is not None
    assert behind_always > 0
    torch.testing.assert_close(ahead, ahead_always)


def test_the_teacher_and_both_models_blocks_have_their_own_rates():
    model = with_teacher(teacher_lr=0.5)
    rates = {
        id(weight): group["lr"]
        for group in model.parameter_groups(0.2)
        for weight in group["params"]
    }
    named = {name: rates[id(weight)] for name, weight in model.named_parameters()}
    assert len(rates) == len(named)
    assert named["frame.head.out.weight"] == 0.2
    assert named["blocks.0.query.weight"] == pytest.approx(0.06)
    assert named["teacher.frame.head.out.weight"] == 0.1
    assert named["teacher.blocks.0.query.weight"] == pytest.approx(0.03)


def test_with_weight_zero_the_student_trains_as_without_a_teacher():
    """The initial weights and logits are the same, and the penalty is zero."""
    model, alone = with_teacher(alpha=0.0), suan("light_suan", window=2, stride=3).train()
    batch = random_batch()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    assert out.penalty == 0
    torch.testing.assert_close(
        out.logits, alone.train_forward(batch.user, batch.context, batch.slate).logits
    )
    names = {name for name in model.state_dict() if not name.startswith("teacher.")}
    assert names == set(alone.state_dict())


def test_the_teacher_may_read_a_longer_history():
    model, batch = with_teacher(length=3), random_batch()
    model.eval()
    older = batch.user.history.clone()
    older[:, :-3] = 9
    first, second = (
        model.train_forward(user, batch.context, batch.slate)
        for user in (batch.user, replace(batch.user, history=older))
    )
    torch.testing.assert_close(first.logits, second.logits)
    assert not torch.allclose(first.auxiliary[0], second.auxiliary[0])


def test_the_teacher_is_in_no_graph(builds: Builds):
    artifact = builds.artifact(Case("light_suan", "taught"))
    names = {
        weight.name
        for graph in (ENCODE, SCORE)
        for weight in onnx.load_model(artifact.file(graph)).graph.initializer
    }
    assert any("blocks" in name for name in names)
    assert not any("teacher" in name for name in names)
