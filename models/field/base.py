"""What all field models share: fields in, a logit out, cut at the cache; and LLaCTR's two enhancements."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, TrainOutput, UserState
from models.batch import Context, Slate, User
from models.blocks.fields.frame import FieldFrame, FieldFrameConfig
from models.blocks.fields.semantics import FieldSemantics, SemanticsConfig
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec


@dataclass(frozen=True)
class FieldModelConfig(FieldFrameConfig, SemanticsConfig):
    """Config of a field model, plain (`llm_dim` = 0) or enhanced by field vectors."""


class FieldModel(CtrModel):
    """logit = b + Σ w_f + interaction(e_1 … e_K) [+ λ_fm · Σ_{k<l} m_kl <e_k, e_l>].

    The state holds the user's fields, summed as far as the interaction allows. Histories are not read.

    Raises:
        ValueError: an enhancement is on, but `llm_dim` is 0.
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
        # With a forked generator, plain and enhanced models of one seed start from the same weights.
        with torch.random.fork_rng(devices=[]):
            self.semantics = (
                FieldSemantics(self.frame.num_fields, config.dim, config)
                if config.llm_dim
                else None
            )

    @abstractmethod
    def interaction_spec(self) -> StateSpec:
        """Spec of the tensors that `encode_fields` returns."""

    @abstractmethod
    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """The logit of the user's fields alone, which every candidate gets, and the tensors of the state.

        Args:
            user: embeddings of the user's fields.
        """

    @abstractmethod
    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """Logits of the interaction, without those of the user's fields alone.

        Args:
            state: tensors that `encode_fields` returned.
            online: embeddings of the context's and the candidates' fields.
        """

    def state_spec(self) -> StateSpec:
        """The user's logit, and the tensors of the interaction."""
        spec = (TensorSpec("user_logit", (1,)), *self.interaction_spec())
        if self._fie is not None:
            spec = (*spec, TensorSpec("semantic_pairs", (self.frame.num_online, self.frame.dim)))
        return spec

    def encode(self, user: User) -> UserState:
        """Sum the profile's fields as far as the interaction allows."""
        return self._encode(user, self.frame.user(user.fields))

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Add the logits of the context's and the candidates' fields, and of their pairs with the user's."""
        return self._score(state, context, slate, self.frame.online(context, slate))

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """Logits, and FRE's loss as the penalty."""
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
            user_pairs, pair_vectors = self._fie.encode(profile)
            logit, state = logit + user_pairs, state | {"semantic_pairs": pair_vectors}
        return {"user_logit": logit[:, None] + self.frame.user_linear(user.fields), **state}

    def _score(
        self, state: UserState, context: Context, slate: Slate, online: Float[Tensor, "B C Ko D"]
    ) -> Float[Tensor, "B C"]:
        logits = state["user_logit"] + self.frame.online_linear(context, slate)
        logits = logits + self.interact(state, online)
        if self._fie is not None:
            logits = logits + self._fie.interact(state["semantic_pairs"], online)
        return logits

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start the logit at a base rate."""
        with torch.no_grad():
            self.frame.bias.fill_(log_odds)

    @property
    def _fie(self) -> FieldSemantics | None:
        return self.semantics if self.config.fie else None
