"""ETA: search the history by the Hamming distance of hash signatures, then attend to the events found. O(L) online.

Source: arXiv:2108.04468. State: catalogue rows, ages and packed signatures, 4·(2 + m/16) bytes per event in any record
dtype. Cost per candidate: O(L·m) single-bit products, then O(k·D·H) for attention.

Differs from the paper:
- distances are one product of ±1 vectors, since ONNX has no population count.
- of events at the same distance, the latest are kept.
- events carry their ages in the attention, whose weights start equal (`multi_head.py`).
- m = 64 by default; according to the paper, more bits help up to about 2·D.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.checks import check_at_least
from models.blocks.embedding import embedding
from models.blocks.event_rows import rows_spec, rows_state
from models.blocks.frame import Frame, FrameConfig
from models.blocks.multi_head import MultiHead
from models.blocks.sim_hash import WORD_BITS, SimHash, pack, similarity, unpack
from models.blocks.top_k import gather_events, top_k
from models.contract.age import NUM_AGES
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class ETAConfig(FrameConfig):
    """Options of ETA. `hidden` is also the width of the attention's projections.

    Attributes:
        num_bits: m, bits of a signature.
        k: number of events that a candidate attends to.
        age_dim: width of the embedding of an event's age.
    """

    num_bits: int = 64
    k: int = 48
    age_dim: int = 4


class ETA(CtrModel):
    """Attention over the k events whose signatures are nearest to the candidate's. The search has no gradient.

    Raises:
        ValueError: k or the number of bits is below 1.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: ETAConfig
    ) -> None:
        super().__init__()
        check_at_least(1, num_bits=config.num_bits, k=config.k)
        self.schema, self.config = schema, config
        dim = config.item_width(schema)
        self.frame = Frame(schema, item_fields, config, config.heads * (dim + config.age_dim))
        self.ages = embedding(NUM_AGES, config.age_dim, config.embedding_std)
        self.hash = SimHash(dim=dim, num_bits=config.num_bits)
        self.attention = MultiHead(
            dim=dim, event_dim=dim + config.age_dim, hidden=config.hidden, heads=config.heads
        )

    def state_spec(self) -> StateSpec:
        """The profile and, per event, its row, age and signature."""
        length = self.schema.history_length
        words = -(-self.config.num_bits // WORD_BITS)
        signatures = TensorSpec("signatures", (length, words), "int32")
        return (*rows_spec(self.frame.profile.dim, length), signatures)

    def encode(self, user: User) -> UserState:
        """Hash the events, and keep the history as it is."""
        state = rows_state(self.frame.profile(user.fields), user, self.schema.history_length)
        return state | {"signatures": pack(self.hash(self.frame.items(user.history)))}

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Search events by signature, then attend to them."""
        target = self.frame.items(slate.items)  # (B, C, D)
        rows = state["rows"].long()  # (B, L)
        signatures = unpack(state["signatures"], self.config.num_bits)  # (B, L, m)
        score = similarity(self.hash(target), signatures)  # (B, C, L)
        index, is_found = top_k(score, rows != PADDING, self.config.k, resolution=1.0)
        ages = self.ages(state["event_ages"].long())  # (B, L, age_dim)
        events = torch.cat([self.frame.items(rows), ages], -1)  # (B, L, D + age_dim)
        long = self.attention(target, gather_events(events, index), is_found)
        return self.frame.logits(state["profile"], context, target, long)
