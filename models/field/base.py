"""What all field models share: fields in, a logit out, cut at the cache; and LLaCTR's enhancements of any of them."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, TrainOutput, UserState
from models.batch import Context, Slate, User
from models.blocks.field_frame import FieldFrame, FieldFrameConfig
from models.blocks.field_semantics import FieldSemantics, SemanticsConfig
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import FeatureSchema


@dataclass(frozen=True)
class FieldModelConfig(FieldFrameConfig, SemanticsConfig):
    """A field model, plain (`llm_dim` of 0) or enhanced."""


class FieldModel(CtrModel):
    """logit = b + Σ w_f + interaction(e_1 … e_K) [+ λ_fm · Σ_{k<l} m_kl <e_k, e_l>].

    The state holds what the user's fields come to, summed as far as the interaction allows: histories are not read.

    Raises:
        ValueError: an enhancement without field vectors.
    """

    reads_history = False
    has_linear = True
    """Whether fields have first-order weights."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: FieldModelConfig
    ) -> None:
        super().__init__()
        if (config.fre or config.fie) and not config.llm_dim:
            raise ValueError(
                "llm_dim: got 0, expected the width of the field vectors: fre or fie is on"
            )
        self.schema, self.config = schema, config
        self.frame = FieldFrame(schema, item_fields, config, has_linear=self.has_linear)
        # Of a generator of its own: with one seed, plain and enhanced models start from the same weights.
        with torch.random.fork_rng(devices=[]):
            self.semantics = (
                FieldSemantics(self.frame.num_fields, config.dim, config)
                if config.llm_dim
                else None
            )

    @abstractmethod
    def interaction_spec(self) -> StateSpec:
        """What `encode_fields` returns, without the logit."""

    @abstractmethod
    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """What the user's fields add to every logit, and the rest of the state.

        Args:
            user: embeddings of the user's fields.
        """

    @abstractmethod
    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """Logits of the interaction, but for what the user's fields add alone.

        Args:
            state: of `encode_fields`.
            online: embeddings of the request's and the candidates' fields.
        """

    def state_spec(self) -> StateSpec:
        """One number, and what the interaction needs."""
        spec = (TensorSpec("user_logit", (1,)), *self.interaction_spec())
        if self._fie is not None:
            spec = (*spec, TensorSpec("semantic_pairs", (self.frame.num_online, self.frame.dim)))
        return spec

    def encode(self, user: User) -> UserState:
        """The profile, as far as it can be summed."""
        return self._encode(user, self.frame.user(user.fields))

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Add what the request and each candidate bring."""
        return self._score(state, context, slate, self.frame.online(context, slate))

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """Logits, and FRE's pull."""
        profile, online = self.frame.user(user.fields), self.frame.online(context, slate)
        logits = self._score(self._encode(user, profile), context, slate, online)
        if self.semantics is None or not self.config.fre:
            return TrainOutput(logits)
        rows = self.frame.embedded_rows(user.fields, context, slate, profile, online)
        penalty = self.semantics.alignment(*rows, num_clicks=slate.items.numel())
        return TrainOutput(logits, penalty)

    def _encode(self, user: User, profile: Float[Tensor, "B Ku D"]) -> UserState:
        logit, state = self.encode_fields(profile)
        if self._fie is not None:
            own, said = self._fie.encode(profile)
            logit, state = logit + own, state | {"semantic_pairs": said}
        return {"user_logit": logit[:, None] + self.frame.user_linear(user.fields), **state}

    def _score(
        self, state: UserState, context: Context, slate: Slate, online: Float[Tensor, "B C Ko D"]
    ) -> Float[Tensor, "B C"]:
        logits = state["user_logit"] + self.frame.online_linear(context, slate)
        logits = logits + self.interact(state, online)
        if self._fie is not None:
            logits = logits + self._fie.interact(state["semantic_pairs"], online)
        return logits

    @property
    def _fie(self) -> FieldSemantics | None:
        return self.semantics if self.config.fie else None
