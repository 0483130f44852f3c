"""Share of held-out values whose nearest field vector is that of their own field."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from builder.language.language_model import LanguageModel
from builder.language.prompts import Pair, write_prompts
from builder.language.texts import FieldTexts
from builder.recipe.language import Template


@dataclass(frozen=True)
class Accuracy:
    """Shares of correct values.

    Attributes:
        of_values: of all held-out values; None if there are none.
        of_fields: mean over the fields with held-out values.
        by_field: field -> share.
    """

    of_values: float | None
    of_fields: float | None
    by_field: dict[str, float]


def measure_accuracy(
    model: LanguageModel, texts: FieldTexts, pairs: Sequence[Pair], template: Template
) -> Accuracy:
    """Accuracy of the nearest field by cosine, with prompts and descriptions encoded by the current weights."""
    if not pairs:
        return Accuracy(None, None, {})
    prompts = model.tokenise(write_prompts(pairs, texts.descriptions, template))
    queries = F.normalize(model.embed_all(prompts), dim=-1)
    fields = F.normalize(model.embed_all(model.tokenise(texts.descriptions)), dim=-1)
    labels = torch.tensor([pair.field for pair in pairs])
    is_right = ((queries @ fields.T).argmax(-1) == labels).float()
    by_field = {
        name: is_right[labels == place].mean().item()
        for place, name in enumerate(texts.names)
        if bool((labels == place).any())
    }
    return Accuracy(is_right.mean().item(), sum(by_field.values()) / len(by_field), by_field)
