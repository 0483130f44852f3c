"""ETA: search the history by the Hamming distance of hash signatures, then attend to the events found. O(L) online.

Source: arXiv:2108.04468. The state is the history itself: an item's signature is a constant of the score graph. Cost
per candidate: O(L·m) single-bit products, then O(k·D·H) for attention.

Differs from the paper:
- distances are one product of ±1 vectors, since ONNX has no population count.
- of events at the same distance, the latest are kept.
- the attention is the kernel that all models here share, with ages, without a softmax.
- m = 48 by default; according to the paper, more bits help up to about 2·D.
"""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.search import HashSearch
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class ETAConfig(SequenceConfig):
    """Options of ETA.

    Attributes:
        num_bits: m, bits of a signature.
        k: number of events that a candidate attends to.
    """

    num_bits: int = 48
    k: int = 64


class ETA(SequenceModel):
    """Attention to the k events whose signatures are nearest to the candidate's.

    Raises:
        ValueError: k or the number of bits is below 1.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: ETAConfig
    ) -> None:
        length, widths = schema.history_length, config.layout(schema).widths
        reader = HashSearch(length, widths, config.heads, config.k, config.num_bits)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config
