"""LLaCTR: two enhancements of a click model by field vectors of a language model.

Source: LLaCTR (doi 10.1145/3774904.3792387), section 3. Where the released code differs, there is an option. The field
vectors h_k are computed once, offline (`builder/language/`); here they are constants.

- FRE pulls the embeddings of a field toward its vector: λ_kl · Σ_k KL(softmax(e_k) ‖ softmax(A h_k)), mean over clicks.
  Differs from the paper: the copies that fill up short slates count as clicks.
- FIE weighs each pair of fields by the similarity of their vectors: λ_fm · Σ_{k<l} m_kl <e_k, e_l>, with
  m = R(cos(h_k, h_l)) and R a linear map of all pairs.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.fields.pairs import pair_places, symmetric, weighted_pairs

Alignment = Literal["kl", "reverse_kl", "mse", "contrastive", "zero"]
Pairs = Literal["cosines", "constant", "free"]
TEMPERATURE = 0.1
"""Temperature of the contrastive alignment."""


@dataclass(frozen=True)
class SemanticsConfig:
    """Options of LLaCTR.

    Attributes:
        llm_dim: width of the field vectors; 0 gives a plain model.
        fre: λ_kl; 0 turns FRE off.
        alignment: loss of FRE. "kl": KL(e ‖ h), as in the paper; "reverse_kl": KL(h ‖ e), as in the released code;
            "mse" of the two softmaxes; "contrastive": classify e_k as its own field among all; "zero": |e_k|², a weight
            decay with the same weights, without field vectors (a control).
        fie: λ_fm; 0 turns FIE off.
        pairs: weights of FIE's pairs. "cosines" of the field vectors; "free": learned, without field vectors (a
            control); "constant": Σ m_kl alone, as the released code adds to FinalMLP and WuKong.
        adaptors: whether A and R are "trained", or "frozen" as in the released code.
    """

    llm_dim: int = 0
    fre: float = 0.0
    alignment: Alignment = "kl"
    fie: float = 0.0
    pairs: Pairs = "cosines"
    adaptors: Literal["trained", "frozen"] = "trained"


class FieldSemantics(nn.Module):
    """The field vectors, the adaptor A to the width of an embedding, and the adaptor R of pairs.

    Args:
        num_fields: K.
        dim: D, width of a field's embedding.
        config: options of the enhancements.
    """

    def __init__(self, num_fields: int, dim: int, config: SemanticsConfig) -> None:
        super().__init__()
        self.config = config
        num_pairs = num_fields * (num_fields - 1) // 2
        # Random until `set_vectors`: a control whose field vectors carry no meaning.
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
            # Pairs start with weight 0: with wide embeddings, as WuKong's, they would dominate the logit.
            nn.init.zeros_(self.rescale.weight)
            nn.init.zeros_(self.rescale.bias)
        if config.adaptors == "frozen":
            for adaptor in (self.to_embedding, self.rescale):
                if adaptor is not None:
                    adaptor.requires_grad_(False)

    def set_vectors(self, vectors: Float[Tensor, "K Dl"]) -> None:
        """Set the field vectors.

        Raises:
            ValueError: their shape is not [K, llm_dim].
        """
        own = self.get_buffer("vectors")
        if vectors.shape != own.shape:
            expected = f"expected {list(own.shape)}, a row for each field"
            raise ValueError(f"field vectors: got shape {list(vectors.shape)}, {expected}")
        own.copy_(vectors)

    def pair_weights(self) -> Float[Tensor, "K K"]:
        """λ_fm·m of each pair of fields.

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
            raise ValueError(f"fie: got {self.config.fie}, expected a weight other than 0")
        return self.config.fie * symmetric(pairs, self.get_buffer("places"))

    def encode(
        self, user: Float[Tensor, "B Ku D"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B Ko D"]]:
        """FIE of the user's fields: the sum of their own pairs, and a vector for each online field."""
        weight, split = self.pair_weights(), user.shape[1]
        if self.config.pairs == "constant":
            return 0 * user.sum((1, 2)) + weight.sum() / 2, 0 * (weight[split:, :split] @ user)
        return weighted_pairs(user, weight[:split, :split]), weight[split:, :split] @ user

    def interact(
        self, pair_vectors: Float[Tensor, "B Ko D"], online: Float[Tensor, "B C Ko D"]
    ) -> Float[Tensor, "B C"]:
        """FIE of the online fields: their pairs with the user's (by the vectors of `encode`), and among themselves."""
        if self.config.pairs == "constant":
            return 0 * online.sum((-2, -1))
        split = len(self.get_buffer("vectors")) - online.shape[2]
        among = weighted_pairs(online, self.pair_weights()[split:, split:])
        out: Tensor = (online * pair_vectors[:, None]).sum((-2, -1)) + among
        return out

    def alignment(
        self,
        rows: Float[Tensor, "R D"],
        weight: Float[Tensor, "R"],
        field: Int[Tensor, "R"],
        *,
        num_clicks: int,
    ) -> Float[Tensor, ""]:
        """λ_kl times the distance of embeddings from their fields' vectors: sum over fields, mean over clicks.

        Args:
            rows: embeddings.
            weight: number of clicks that have each embedding.
            field: index of each embedding's field, 0 to K − 1.
            num_clicks: N.
        """
        if self.to_embedding is None:
            distance = rows.square().sum(-1)
        else:
            distance = self._distance(rows, self.to_embedding(self.get_buffer("vectors")), field)
        return self.config.fre * (weight * distance).sum() / num_clicks

    def _distance(
        self, rows: Float[Tensor, "R D"], target: Float[Tensor, "K D"], field: Int[Tensor, "R"]
    ) -> Float[Tensor, "R"]:
        kind = self.config.alignment
        if kind == "contrastive":
            cosine = F.normalize(rows, dim=-1) @ F.normalize(target, dim=-1).T
            return F.cross_entropy(cosine / TEMPERATURE, field, reduction="none")
        e, h = rows.log_softmax(-1), target.log_softmax(-1)[field]
        if kind == "mse":
            return (e.exp() - h.exp()).square().sum(-1)
        first, second = (e, h) if kind == "kl" else (h, e)
        return (first.exp() * (first - second)).sum(-1)
