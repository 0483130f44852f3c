"""The recipe's section on field vectors. Imported with every recipe, so it knows no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

Architecture = Literal["smollm2", "minilm"]
Vectors = Literal["tuned", "raw", "random", "shuffled"]
Loss = Literal["contrastive", "generative", "both"]
Template = Literal["short", "long"]

DIMS: Mapping[Architecture, int] = {"smollm2": 576, "minilm": 384}
"""Widths of the models' hidden states."""


@dataclass(frozen=True)
class LanguageRule:
    """How a language model is tuned on the fields' values, and which vectors of the fields come of it."""

    model: Architecture = "minilm"
    """"minilm": all-MiniLM-L6-v2, a sentence encoder; "smollm2": SmolLM2-135M-Instruct, a decoder as in the paper,
    which takes some ten times as long."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """Field -> what it is in words. A field that is not listed is described by its name, as all are in the paper."""
    vectors: Vectors = "tuned"
    """"raw": of the model as it came. Controls of what language says: "random" vectors as long as the tuned ones;
    "shuffled": the tuned ones, each at another field."""
    loss: Loss = "contrastive"
    """"generative" writes the description as an answer (decoder only); "both": their sum, which the paper has not."""
    template: Template = "short"
    """"long": the task and all candidates in each prompt, as in the paper; "short": the value alone, shorter
    and so faster."""
    values_per_field: Annotated[int, Interval(ge=1)] = 1000
    """Sampled at most; a tenth of them, up to 40, is held out to measure on."""
    steps: Annotated[int, Interval(ge=1)] = 66
    """Steps of the tuning."""
    batch: Annotated[int, Interval(ge=1)] = 32
    """Prompts in a step. The paper has 128: half of its prompts in twice as many steps teach no less."""
    learning_rate: Annotated[float, Interval(gt=0)] = 3e-3
    """Of the tuning."""
    rank: Annotated[int, Interval(ge=1)] = 8
    """Of LoRA's matrices, on queries and values of every layer."""
    alpha: Annotated[float, Interval(gt=0)] = 16.0
    """LoRA's scale is alpha / rank."""
    dropout: Annotated[float, Interval(ge=0, le=0.99)] = 0.05
    """Of LoRA's input."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Of the draws of values and of the adapter's weights."""
    threads: Annotated[int, Interval(ge=0)] = 0
    """0: one per core."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return DIMS[self.model]

    def __post_init__(self) -> None:
        if self.model == "minilm" and self.loss != "contrastive":
            raise ValueError(
                f"loss: got {self.loss!r}, expected 'contrastive': minilm is an encoder, and writes no answers"
            )
