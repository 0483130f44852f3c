"""LightSUAN: SUAN with sparse attention, and with a teacher if it has one: what serves.

Source: SUAN (2508.15326). Temperature, weight, gradient stop and separate tables are ours: its text was not at hand.
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
    """LightSUAN. Events attend sparsely; a candidate, whose row alone is read, by default to all of them.

    Attributes:
        teacher_blocks: blocks of a SUAN that is trained beside it; 0: no teacher.
        teacher_item_dim: its width of an item id's embedding.
        teacher_field_dim: its width of each other item field's.
        teacher_length: latest events it reads; 0: all there are.
        teacher_lr: times the student's learning rate: a larger model learns best at a smaller one.
        temperature: t.
        alpha: λ = α·t², so that the softened loss pulls alike at every temperature.
        must_lead: distil only in steps in which the teacher's probabilities spread wider than its student's: of two
            calibrated models the one that spreads wider knows more. Before, it would teach what it has yet to learn.
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
    """Served as SUAN is. With a teacher, each step fits both to the labels and the student to the teacher as well.

    J = CE(σ(z_s), y) + CE(σ(z_t), y) + λ·CE(σ(z_s/t), σ(z_t/t)); the last has no gradient for the teacher, whose
    tables are its own. The teacher is neither exported nor served.

    Raises:
        ValueError: a temperature of 0 or less, or a negative weight; or as SUAN.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LightSUANConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        if config.temperature <= 0:
            raise ValueError(f"temperature: got {config.temperature}, expected more than 0")
        if config.alpha < 0:
            raise ValueError(f"alpha: got {config.alpha}, expected 0 or more")
        # Built last, so that a student alone starts from the same weights.
        self.teacher = (
            SUAN(schema, item_fields, _of_teacher(config)) if config.teacher_blocks else None
        )
        self.config: LightSUANConfig = config

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The teacher's weights at `teacher_lr` times the rate, both models' blocks as in `SUAN`."""
        if self.teacher is None:
            return super().parameter_groups(lr)
        named = self.named_parameters()
        own = [weight for name, weight in named if not name.startswith("teacher.")]
        return [
            *slower_groups(own, self.blocks.parameters(), lr, self.config.block_lr),
            *self.teacher.parameter_groups(lr * self.config.teacher_lr),
        ]

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """The student's logits, the teacher's beside them, and λ times the distance between the two."""
        logits = self(user, context, slate)
        if self.teacher is None:
            return TrainOutput(logits)
        taught = self.teacher(user, context, slate)
        return TrainOutput(logits, self._distance(logits, taught, slate), (taught,))

    def _distance(
        self, logits: Float[Tensor, "B C"], taught: Float[Tensor, "B C"], slate: Slate
    ) -> Float[Tensor, ""]:
        t = self.config.temperature
        is_real = (slate.items != PADDING).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(
            logits / t, (taught / t).sigmoid().detach(), weight=is_real, reduction="sum"
        )
        loss = self.config.alpha * t**2 * loss / is_real.sum()
        if not self.config.must_lead:
            return loss
        ahead = taught.detach().sigmoid().var() > logits.detach().sigmoid().var()
        return loss * ahead.to(loss.dtype)


def _of_teacher(config: LightSUANConfig) -> SUANConfig:
    """Wider, deeper, denser; in all else as its student."""
    shared = {field.name: getattr(config, field.name) for field in fields(SUANConfig)}
    changed = {
        "blocks": config.teacher_blocks, "item_dim": config.teacher_item_dim,
        "field_dim": config.teacher_field_dim, "length": config.teacher_length,
        "window": 0, "stride": 1, "target_window": 0, "target_stride": 0,
    }  # fmt: skip
    return SUANConfig(**{**shared, **changed})
