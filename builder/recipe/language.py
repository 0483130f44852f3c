"""The `[language]` section of a recipe: field vectors. Every recipe imports it, so it does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from builder.recipe.limits import Interval

Architecture = Literal["smollm2", "minilm"]
Vectors = Literal["tuned", "raw", "random", "shuffled"]
Loss = Literal["contrastive", "generative", "both"]
Template = Literal["short", "long"]

DIMS: Mapping[Architecture, int] = {"smollm2": 576, "minilm": 384}
"""Widths of the models' hidden states."""


@dataclass(frozen=True)
class LanguageRule:
    """How a language model is tuned on the values of the fields, and which field vectors it gives."""

    model: Architecture = "minilm"
    """"minilm": all-MiniLM-L6-v2, a sentence encoder; "smollm2": SmolLM2-135M-Instruct, a decoder as in the paper,
    about ten times slower."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """Field -> description in words. Other fields are described by their name, as all fields are in the paper."""
    vectors: Vectors = "tuned"
    """"tuned": of the tuned model; "raw": of the model as published. Controls: "random": random vectors of the same
    lengths as the tuned ones; "shuffled": the tuned vectors, each assigned to another field."""
    loss: Loss = "contrastive"
    """"contrastive": value and description are close; "generative": the model writes the description (decoder only);
    "both": the sum, which is not in the paper."""
    template: Template = "short"
    """"long": each prompt has the task and all candidates, as in the paper; "short": the value alone, faster."""
    values_per_field: Annotated[int, Interval(ge=1)] = 1000
    """Largest number of sampled values per field. A tenth of them, at most 40, is held out for measuring."""
    steps: Annotated[int, Interval(ge=1)] = 66
    """Number of tuning steps."""
    batch: Annotated[int, Interval(ge=1)] = 32
    """Prompts per step. The paper has 128; half as many prompts in twice as many steps gave the same quality."""
    learning_rate: Annotated[float, Interval(gt=0)] = 3e-3
    """Learning rate of the tuning."""
    rank: Annotated[int, Interval(ge=1)] = 8
    """Rank of LoRA's matrices, which adapt the queries and values of every layer."""
    alpha: Annotated[float, Interval(gt=0)] = 16.0
    """LoRA's scale is alpha / rank."""
    dropout: Annotated[float, Interval(ge=0, le=0.99)] = 0.05
    """Dropout on LoRA's input."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the sampled values and of LoRA's initial weights."""
    threads: Annotated[int, Interval(ge=0)] = 0
    """Number of threads; 0: one per core."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return DIMS[self.model]

    def __post_init__(self) -> None:
        if self.model == "minilm" and self.loss != "contrastive":
            raise ValueError(
                f"loss: got {self.loss!r}, expected 'contrastive': minilm is an encoder and cannot write text"
            )
