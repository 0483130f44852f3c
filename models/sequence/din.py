"""DIN: target attention to every event of the history. O(L) online. LREA approximates it.

Source: arXiv:1706.06978. Differs from the paper:
- the score unit is LREA's (three terms, one hidden Leaky ReLU layer), so that DIN and LREA differ only in what they
  attend to. It starts as likeness. `score = "kernel"` replaces it by a kernel on unit-length fields.
- events carry their ages.
- the head also sees how much matched (the masses), and e_t ⊙ pooled.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.base import Reader
from models.readers.kernel import KernelReader
from models.readers.phi import PhiReader
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class DINConfig(SequenceConfig):
    """Options of DIN.

    Attributes:
        long: whether to attend to the whole history; False uses counts and the short-term history only.
        score: weight of an event: "phi", DIN's, or "kernel".
        hidden: h, width of φ.
    """

    long: bool = True
    score: Literal["kernel", "phi"] = "phi"
    hidden: int = 32


class DIN(SequenceModel):
    """The state holds rows and ages of the latest L events. Score: O(L·D·h) per candidate, by kernel O(L·D·H)."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: DINConfig
    ) -> None:
        super().__init__(schema, item_fields, config, [_reader(schema, config)] * config.long)
        self.config = config


def _reader(schema: FeatureSchema, config: DINConfig) -> Reader:
    length, widths = schema.history_length, config.layout(schema).widths
    if config.score == "kernel":
        return KernelReader(length, widths, config.heads)
    return PhiReader(length, widths, hidden=config.hidden, heads=config.heads, slope=config.slope)
