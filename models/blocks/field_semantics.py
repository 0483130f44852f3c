"""What a language model knows of the fields, in a click model: LLaCTR's two enhancements.

Source: LLaCTR (doi 10.1145/3774904.3792387), section 3; where the released code differs it is a switch. Field vectors
h_k are made once, offline (`builder/`): here they are constants.

- FRE pulls every embedding of a field toward the field: λ_kl · Σ_k KL(softmax(e_k) ‖ softmax(A h_k)), mean over clicks.
  Differs: copies that fill short slates up count as clicks, too.
- FIE weighs each pair of fields by what their vectors have in common: λ_fm · Σ_{k<l} m_kl <e_k, e_l>, with
  m = R(cos(h_k, h_l)) and R a linear map of all pairs.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.field_pairs import pair_places, symmetric, weighted_pairs

Alignment = Literal["kl", "reverse_kl", "mse", "contrastive", "zero"]
Pairs = Literal["cosines", "constant", "free"]
TEMPERATURE = 0.1
"""Of the contrastive alignment."""


@dataclass(frozen=True)
class SemanticsConfig:
    """LLaCTR.

    Attributes:
        llm_dim: width of the field vectors; 0: a plain model.
        fre: λ_kl; 0: no FRE.
        alignment: "kl": KL(e ‖ h), the paper's; "reverse_kl": KL(h ‖ e), the released code's; "mse" of the two
            softmaxes; "contrastive": e_k knows its own field among all; "zero": |e_k|², a decay of the weights that
            pulls as often and knows no language (a control).
        fie: λ_fm; 0: no FIE.
        pairs: what FIE weighs pairs by: the fields' "cosines", or "free" weights that know no language (a control);
            "constant": Σ m_kl alone, what the released code adds to FinalMLP and WuKong.
        adaptors: "trained", or "frozen" as in the released code.
    """

    llm_dim: int = 0
    fre: float = 0.0
    alignment: Alignment = "kl"
    fie: float = 0.0
    pairs: Pairs = "cosines"
    adaptors: Literal["trained", "frozen"] = "trained"


class FieldSemantics(nn.Module):
    """Field vectors, the adaptor A to an embedding's width, and the adaptor R of pairs.

    Args:
        num_fields: K.
        dim: D, width of a field's embedding.
        config: of the enhancements.
    """

    def __init__(self, num_fields: int, dim: int, config: SemanticsConfig) -> None:
        super().__init__()
        self.config = config
        num_pairs = num_fields * (num_fields - 1) // 2
        # Random until `set_vectors`: what is left of a model whose field vectors say nothing.
        self.register_buffer("vectors", torch.randn(num_fields, config.llm_dim))
        self.register_buffer("places", pair_places(num_fields), persistent=False)
        self.register_buffer(
            "above", torch.triu_indices(num_fields, num_fields, 1), persistent=False
        )
        has_target = config.fre and config.alignment != "zero"
        self.to_embedding = nn.Linear(config.llm_dim, dim) if has_target else None
        is_free = config.pairs == "free"
        self.rescale = nn.Linear(num_pairs, num_pairs) if config.fie and not is_free else None
        self.free = nn.Parameter(torch.zeros(num_pairs)) if config.fie and is_free else None
        if self.rescale is not None and config.adaptors == "trained":
            # No weight of a pair before it is learned: embeddings as wide as WuKong's would drown the rest.
            nn.init.zeros_(self.rescale.weight)
            nn.init.zeros_(self.rescale.bias)
        if config.adaptors == "frozen":
            for adaptor in (self.to_embedding, self.rescale):
                if adaptor is not None:
                    adaptor.requires_grad_(False)

    def set_vectors(self, vectors: Float[Tensor, "K Dl"]) -> None:
        """Take the fields' vectors.

        Raises:
            ValueError: they are not of the shape [K, llm_dim].
        """
        own = self.get_buffer("vectors")
        if vectors.shape != own.shape:
            expected = f"expected {list(own.shape)}, a row for each field"
            raise ValueError(f"field vectors: got shape {list(vectors.shape)}, {expected}")
        own.copy_(vectors)

    def pair_weights(self) -> Float[Tensor, "K K"]:
        """λ_fm·m.

        Raises:
            ValueError: FIE is off.
        """
        if self.rescale is not None:
            unit = F.normalize(self.get_buffer("vectors"), dim=-1)
            first, second = self.get_buffer("above")
            pairs = self.rescale((unit[first] * unit[second]).sum(-1))
        elif self.free is not None:
            pairs = self.free
        else:
            raise ValueError(f"fie: got {self.config.fie}, expected a weight: there are no pairs")
        return self.config.fie * symmetric(pairs, self.get_buffer("places"))

    def encode(
        self, user: Float[Tensor, "B Ku D"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B Ko D"]]:
        """FIE of the user's fields: their own pairs, and what they say to each online field."""
        weight, split = self.pair_weights(), user.shape[1]
        if self.config.pairs == "constant":
            return 0 * user.sum((1, 2)) + weight.sum() / 2, 0 * (weight[split:, :split] @ user)
        return weighted_pairs(user, weight[:split, :split]), weight[split:, :split] @ user

    def interact(
        self, said: Float[Tensor, "B Ko D"], online: Float[Tensor, "B C Ko D"]
    ) -> Float[Tensor, "B C"]:
        """FIE of the online fields: with what the user's say to them, and among themselves."""
        if self.config.pairs == "constant":
            return 0 * online.sum((-2, -1))
        split = len(self.get_buffer("vectors")) - online.shape[2]
        among = weighted_pairs(online, self.pair_weights()[split:, split:])
        out: Tensor = (online * said[:, None]).sum((-2, -1)) + among
        return out

    def alignment(
        self,
        rows: Float[Tensor, "R D"],
        weight: Float[Tensor, "R"],
        field: Int[Tensor, "R"],
        *,
        num_clicks: int,
    ) -> Float[Tensor, ""]:
        """λ_kl times how far embeddings are from their fields: sum over fields, mean over clicks.

        Args:
            rows: embeddings.
            weight: clicks that have each.
            field: of each, 0 to K − 1.
            num_clicks: N.
        """
        if self.to_embedding is None:
            far = rows.square().sum(-1)
        else:
            far = self._distance(rows, self.to_embedding(self.get_buffer("vectors")), field)
        return self.config.fre * (weight * far).sum() / num_clicks

    def _distance(
        self, rows: Float[Tensor, "R D"], target: Float[Tensor, "K D"], field: Int[Tensor, "R"]
    ) -> Float[Tensor, "R"]:
        kind = self.config.alignment
        if kind == "contrastive":
            alike = F.normalize(rows, dim=-1) @ F.normalize(target, dim=-1).T / TEMPERATURE
            return F.cross_entropy(alike, field, reduction="none")
        e, h = rows.log_softmax(-1), target.log_softmax(-1)[field]
        if kind == "mse":
            return (e.exp() - h.exp()).square().sum(-1)
        first, second = (e, h) if kind == "kl" else (h, e)
        return (first.exp() * (first - second)).sum(-1)
