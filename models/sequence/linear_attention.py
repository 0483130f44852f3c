"""Linear attention: a kernel replaces the softmax, so that the whole history is summed into h×(D + 1) numbers a head.

Source: Katharopoulos et al. 2020, arXiv:2006.16236v3, with the candidate as the only query. Cost per candidate:
O(H·h·D). Differs from the paper:
- values are the events themselves: W_v would be one more linear map before the head's first linear layer.
- queries and keys share their projection: from the start, events like the candidate have the largest weights.
- events are weighed by their ages.
"""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from models.blocks.checks import check_at_least
from models.contract.schema import FeatureSchema
from models.readers.pooling import LinearReader
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class LinearAttentionConfig(SequenceConfig):
    """Options of linear attention.

    Attributes:
        key_dim: h, width of a head's features.
    """

    key_dim: int = 24


class LinearAttention(SequenceModel):
    """The state does not grow with L.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LinearAttentionConfig
    ) -> None:
        check_at_least(1, key_dim=config.key_dim)
        reader = LinearReader(config.layout(schema).dim, config.key_dim, config.heads)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config
