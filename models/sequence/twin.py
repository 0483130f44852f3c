"""TWIN: one attention that is used twice, to search the history and to sum the events that were found.

Source: arXiv:2302.02352v2. The state is the history itself. Cost per candidate: O(L·D·H) for the weights, linear in L;
then O(k·D·H).

Differs from the paper:
- the attention is the kernel that all models here share; the age of an event is its one cross feature.
- the k events of a candidate are those with the largest weight in any head; the paper takes the best event of each head
  in turn until it has k.
- of events with (nearly) equal weights, the latest are kept.
- all weights have one learning rate; the short history goes through the frame's attention.
"""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.search import KernelSearch
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class TWINConfig(SequenceConfig):
    """Options of TWIN.

    Attributes:
        k: number of events that a candidate attends to.
    """

    k: int = 64


class TWIN(SequenceModel):
    """Attention to the k events to which it gives the largest weights.

    Raises:
        ValueError: k is below 1.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: TWINConfig
    ) -> None:
        length, widths = schema.history_length, config.layout(schema).widths
        reader = KernelSearch(length, widths, config.heads, config.k)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config
