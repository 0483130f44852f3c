"""SIM: search the history for events like the candidate, then attend to those. O(L) online, with a small factor.

Source: arXiv:2006.05639v2. The state is the history itself, catalogue rows and ages: 8 bytes per event in any record
dtype. Cost per candidate: hard O(L) comparisons, soft O(L·h); then O(k·D·H) for attention.

Differs from the paper:
- hard search compares the candidate's category with all L events; the paper's online index (user → category → events)
  finds the same events. It keeps the latest k of them; the paper keeps all.
- soft search is exact; the paper's is approximate (ALSH). Both search weights start equal: from the start, a candidate
  finds events of its own item. U_r is divided by √n, and the search unit has one hidden layer.
- the attention is the kernel that all models here share, without a softmax.
- search and attention share the item embeddings.
- the short history goes through the frame's attention instead of DIEN.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from models.contract.schema import FeatureSchema
from models.readers.search import CategorySearch, SearchReader, SoftSearch
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class SIMConfig(SequenceConfig):
    """Options of SIM.

    Attributes:
        search: "hard" (events of the candidate's category, the latest k) or "soft" (the k largest r_l).
        k: number of events that a candidate attends to.
        category: the item field that hard search compares; None takes the recipe's first item field.
        hidden: h, width of soft search's W_a and W_b.
    """

    search: Literal["hard", "soft"] = "soft"
    k: int = 64
    category: str | None = None
    hidden: int = 32


class SIM(SequenceModel):
    """General search, then attention to the k best events.

    Raises:
        ValueError: k is below 1, soft search has a category, or the category is not an item field.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SIMConfig
    ) -> None:
        reader = _reader(schema, item_fields, config)
        super().__init__(schema, item_fields, config, [reader])
        self.config = config


def _reader(
    schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SIMConfig
) -> SearchReader:
    length, widths = schema.history_length, config.layout(schema).widths
    if config.search == "soft":
        if config.category is not None:
            raise ValueError(
                f"category: got {config.category!r}, expected none with search = 'soft'"
            )
        return SoftSearch(
            length, widths, config.heads, config.k, hidden=config.hidden, slope=config.slope
        )
    column = _category_column(schema, config)
    return CategorySearch(length, widths, config.heads, config.k, item_fields[:, column])


def _category_column(schema: FeatureSchema, config: SIMConfig) -> int:
    names = [field.name for field in schema.item_fields]
    described = [name for name in names[1:] if name not in config.unmatched]
    if config.category is None and not described:
        raise ValueError("search: got 'hard', expected 'soft': there is no item field to compare")
    category = config.category or described[0]
    if category not in names[1:]:
        raise ValueError(f"category: got {category!r}, expected an item field among {names[1:]}")
    return names.index(category)
