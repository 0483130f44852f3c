"""Arms of `llactr`: how each backbone is trained: plain, with LLaCTR, without a part of it, and as controls.

The paper (doi 10.1145/3774904.3792387) has the base, LLaCTR and its ablations. Its field vectors are constants behind
trained adaptors, and the adaptors alone can reach any weights of pairs and any prototypes of fields. Only controls can
tell whether the language matters: vectors without meaning, and models that regularise and weigh pairs as much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from builder.errors import RecipeError
from builder.recipe.language import Vectors
from builder.recipe.models import Variant
from builder.recipe.recipe import Recipe
from models.field.base import FieldModel
from models.registry import model_entry

BASE, ENHANCED = "base", "LLaCTR"
ON = 0.1
"""λ_kl and λ_fm where the recipe's search does not draw them."""
SECOND_ORDER = ("fm", "deep_fm", "fwfm", "fmfm")
"""Backbones whose pairs the released code weighs; to the others it adds a constant."""


@dataclass(frozen=True)
class Arm:
    """A way to train a backbone.

    Attributes:
        name: in tables.
        description: in tables.
        vectors: field vectors that it gets; None: none.
        config: keys of the model's config.
        others: keys that differ for backbones that are not of `SECOND_ORDER`.
    """

    name: str
    description: str
    vectors: Vectors | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    def of(self, backbone: Variant) -> Variant:
        """The variant that trains the backbone in this way."""
        is_paired = backbone.model.name in SECOND_ORDER
        changes = self.config if is_paired else {**self.config, **self.others}
        model = replace(backbone.model, config={**backbone.model.config, **changes})
        name = label(backbone.label, self.name)
        return replace(backbone, label=name, model=model, vectors=self.vectors, against=())


BOTH = {"fre": ON, "fie": ON}
ARMS: Sequence[Arm] = (
    Arm(BASE, "the plain backbone"),
    Arm(ENHANCED, "fine-tuned field vectors, FRE and FIE", "tuned", BOTH),
    Arm("without SSFT", "the language model as it came", "raw", BOTH),
    Arm("without FRE", "FIE alone", "tuned", {"fie": ON}),
    Arm("without FIE", "FRE alone", "tuned", {"fre": ON}),
    Arm("random vectors", "control: as long, but drawn at random", "random", BOTH),
    Arm("shuffled vectors", "control: each field has another's vector", "shuffled", BOTH),
    Arm(
        "free pairs",
        "control: FRE, and weights of pairs of their own",
        "tuned",
        BOTH | {"pairs": "free"},
    ),
    Arm(
        "no language",
        "control: FRE toward zero (a weight decay as strong), free pairs",
        "random",
        BOTH | {"alignment": "zero", "pairs": "free"},
    ),
    Arm(
        "released code",
        "KL the other way round, adaptors never trained; FinalMLP, WuKong: FIE a constant",
        "tuned",
        BOTH | {"alignment": "reverse_kl", "adaptors": "frozen"},
        {"pairs": "constant"},
    ),
)
ARM_NAMES = tuple(arm.name for arm in ARMS)
"""The base and LLaCTR first."""


def label(backbone: str, arm: str) -> str:
    """Label of the variant that trains `backbone` as `arm`."""
    return f"{backbone}, {arm}"


def with_arms(recipe: Recipe, names: Sequence[str] = ()) -> Recipe:
    """The recipe with each of its variants trained in each way.

    Args:
        recipe: its variants are the backbones.
        names: of arms beside the base and LLaCTR; empty: all.

    Raises:
        RecipeError: there is no variant, one is no field model, or there is no [language] section.
    """
    problems = []
    if not recipe.variant:
        problems.append("variant: missing, `llactr` needs [[variant]] tables: the backbones")
    for place, backbone in enumerate(recipe.variant):
        if not issubclass(model_entry(backbone.model.name).model, FieldModel):
            got = f"got {backbone.model.name!r}, expected a field model"
            problems.append(f"variant[{place}].model.name: {got}")
    if recipe.language is None:
        problems.append(
            "language: missing, `llactr` needs a [language] section, which names the language model"
        )
    if problems:
        raise RecipeError(str(recipe.path), problems)
    chosen = [arm for arm in ARMS if not names or arm.name in (BASE, ENHANCED, *names)]
    variants = tuple(arm.of(backbone) for backbone in recipe.variant for arm in chosen)
    return replace(recipe, variant=variants, sweep=())
