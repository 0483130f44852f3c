"""LightSUAN: SUAN with sparse attention, optionally trained with a larger SUAN as its teacher. It serves without it.

Source: SUAN (arXiv:2508.15326). Its text was not at hand: temperature, loss weight, gradient stop and separate
embedding tables are ours.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.base import TrainOutput, slower_groups
from models.batch import Context, Slate, User
from models.contract.schema import PADDING, FeatureSchema
from models.sequence.suan import SUAN, SUANConfig


@dataclass(frozen=True)
class LightSUANConfig(SUANConfig):
    """Options of LightSUAN. Events attend sparsely; a candidate, whose row alone is the output, to all by default.

    Attributes:
        teacher_blocks: blocks of the SUAN that is trained as the teacher; 0 trains without a teacher.
        teacher_item_dim: the teacher's width of an item id's embedding.
        teacher_field_dim: the teacher's width of each other item field's embedding.
        teacher_length: number of latest events that the teacher reads; 0 for all.
        teacher_lr: the teacher's learning rate, as a factor on the student's: a larger model needs a smaller rate.
        temperature: t.
        alpha: α in λ = α·t², so that the weight of the softened loss does not depend on t.
        must_lead: distil only in steps in which the teacher's probabilities have a larger variance than the student's.
            Of two calibrated models, the one with the larger variance is more informative; early in training, the
            teacher is not yet.
    """

    window: int = 16
    stride: int = 16
    target_stride: int = 1
    teacher_blocks: int = 0
    teacher_item_dim: int = 32
    teacher_field_dim: int = 8
    teacher_length: int = 0
    teacher_lr: float = 1.0
    temperature: float = 1.0
    alpha: float = 1.0
    must_lead: bool = True


class LightSUAN(SUAN):
    """With a teacher, each step fits both models to the labels, and the student also to the teacher.

    J = CE(σ(z_s), y) + CE(σ(z_t), y) + λ·CE(σ(z_s/t), σ(z_t/t)). The last term has no gradient for the teacher. The
    two models have separate embedding tables. The teacher is neither exported nor served.

    Raises:
        ValueError: `temperature` is not above 0, `alpha` is negative, or as SUAN.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LightSUANConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        if config.temperature <= 0:
            raise ValueError(f"temperature: got {config.temperature}, expected more than 0")
        if config.alpha < 0:
            raise ValueError(f"alpha: got {config.alpha}, expected 0 or more")
        # Built last, so that the student starts from the same weights with and without a teacher.
        self.teacher = (
            SUAN(schema, item_fields, _of_teacher(config)) if config.teacher_blocks else None
        )
        self.config: LightSUANConfig = config

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The teacher's weights learn at `teacher_lr` times the rate; both models' blocks as in SUAN."""
        if self.teacher is None:
            return super().parameter_groups(lr)
        named = self.named_parameters()
        own = [weight for name, weight in named if not name.startswith("teacher.")]
        return [
            *slower_groups(own, lr, (list(self.blocks.parameters()), self.config.block_lr)),
            *self.teacher.parameter_groups(lr * self.config.teacher_lr),
        ]

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start both models' logits at a base rate."""
        super().set_base_log_odds(log_odds)
        if self.teacher is not None:
            self.teacher.set_base_log_odds(log_odds)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """The student's logits, the teacher's as auxiliary ones, and the distillation loss as the penalty."""
        logits = self(user, context, slate)
        if self.teacher is None:
            return TrainOutput(logits)
        teacher_logits = self.teacher(user, context, slate)
        loss = self._distillation(logits, teacher_logits, slate)
        return TrainOutput(logits, loss, (teacher_logits,))

    def _distillation(
        self, logits: Float[Tensor, "B C"], teacher: Float[Tensor, "B C"], slate: Slate
    ) -> Float[Tensor, ""]:
        t = self.config.temperature
        is_real = (slate.items != PADDING).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(
            logits / t, (teacher / t).sigmoid().detach(), weight=is_real, reduction="sum"
        )
        loss = self.config.alpha * t**2 * loss / is_real.sum()
        if not self.config.must_lead:
            return loss
        leads = teacher.detach().sigmoid().var() > logits.detach().sigmoid().var()
        return loss * leads.to(loss.dtype)


def _of_teacher(config: LightSUANConfig) -> SUANConfig:
    """Config of the teacher: wider, deeper and with dense attention; the rest as its student."""
    shared = {field.name: getattr(config, field.name) for field in fields(SUANConfig)}
    changed = {
        "blocks": config.teacher_blocks,
        "item_dim": config.teacher_item_dim,
        "field_dim": config.teacher_field_dim,
        "length": config.teacher_length,
        "window": 0,
        "stride": 1,
        "target_window": 0,
        "target_stride": 0,
    }
    return SUANConfig(**{**shared, **changed})
