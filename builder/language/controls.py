"""Control vectors: like those of the language model, without its knowledge of the fields."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from builder.recipe.language import LanguageRule


def chosen_vectors(vectors: Float[Tensor, "K D"], rule: LanguageRule) -> Float[Tensor, "K D"]:
    """The vectors that `rule.vectors` selects: the model's own, shuffled ones or random ones."""
    if rule.vectors == "random":
        return random_like(vectors, rule.seed)
    if rule.vectors == "shuffled":
        return vectors.index_select(0, derangement(len(vectors), rule.seed))
    return vectors


def random_like(vectors: Float[Tensor, "K D"], seed: int) -> Float[Tensor, "K D"]:
    """Random directions with the lengths of the rows."""
    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
    return F.normalize(drawn, dim=-1) * lengths


def derangement(size: int, seed: int) -> Int64[Tensor, "K"]:
    """A permutation without a fixed point: one cycle through all places, in random order.

    Raises:
        ValueError: `size` is below 2.
    """
    if size < 2:
        raise ValueError(f"shuffled vectors: got {size} field(s), expected at least 2")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def cosine_summary(vectors: Float[Tensor, "K D"]) -> dict[str, float]:
    """Minimum, mean, maximum and deviation of the cosines between fields; empty for a single field."""
    unit = F.normalize(vectors, dim=-1)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    cosines = (unit[first] * unit[second]).sum(-1)
    if not len(cosines):
        return {}
    spread = cosines.std(correction=0)
    parts = {"min": cosines.min(), "mean": cosines.mean(), "max": cosines.max(), "std": spread}
    return {name: value.item() for name, value in parts.items()}
