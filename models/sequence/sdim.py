"""SDIM: a candidate sums the events that share its hash signatures. The online cost does not depend on L.

Source: arXiv:2205.10249. Differs from the paper:
- a bucket keeps the sum and the number of its events, weighed by their ages, instead of a normalised sum; so the head
  sees how much matched.
"""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.collisions import CollisionReader
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class SDIMConfig(SequenceConfig):
    """Options of SDIM.

    Attributes:
        num_bits: m, total number of sign bits.
        tau: τ, bits per signature; must divide m.
    """

    num_bits: int = 48
    tau: int = 3


class SDIM(SequenceModel):
    """One bucket table per user.

    Raises:
        ValueError: τ does not divide m, or either is below 1.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SDIMConfig
    ) -> None:
        reader = CollisionReader(config.layout(schema).dim, config.num_bits, config.tau)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config
