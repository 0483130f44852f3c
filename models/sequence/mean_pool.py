"""Mean pooling: the mean of the whole history, the same for every candidate. A baseline without attention.

The "avg-pooling long" baseline of SIM (arXiv:2006.05639) and ETA (arXiv:2108.04468). State: D + 1 numbers. Differs from
them: the number of events, and how much their sum is like the candidate, are inputs too.
"""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.pooling import MeanReader
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class MeanPoolConfig(SequenceConfig):
    """Options of mean pooling: none of its own."""


class MeanPool(SequenceModel):
    """One vector per user."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: MeanPoolConfig
    ) -> None:
        reader = MeanReader(config.layout(schema).dim)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config
