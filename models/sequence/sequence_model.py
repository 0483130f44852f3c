"""A model of a long history: the frame, and readers of the history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, TrainOutput, UserState, slower_groups
from models.batch import Context, Slate, User
from models.blocks.attention.kernel import FieldKernel
from models.blocks.attention.target_score import TargetScore
from models.blocks.checks import check_at_least
from models.blocks.frame import Frame, FrameConfig
from models.blocks.lookup.matching import match_keys
from models.blocks.reading import Candidates, Events
from models.blocks.unit_items import LookUp
from models.contract.schema import PADDING, FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State, TrainRead
from models.readers.counted_item_slots import CountedItemSlots
from models.readers.counts import CountReader
from models.readers.item_table import ItemTableReader
from models.readers.sketch import SketchReader
from models.sequence.by_length import JointLookUp, join, split_by_length

PROFILE = "profile"


@dataclass(frozen=True)
class SequenceConfig(FrameConfig):
    """Config that every model of a long history has beside that of its own readers.

    Attributes:
        counts: whether the model also counts the events that share the candidate's item or a field of it: "none";
            "exact", from the history, which the state then holds; "sketch", in cells that keys hash to; or "table",
            exactly by item in a table of the history's items, with a sketch of the fields. "slots", exactly from the
            items of item slots, only for those.
        cells: for sketches, cells of each of a key's two tables.
        table_size: T, for "table", number of items kept.
    """

    counts: Literal["none", "exact", "sketch", "table", "slots"] = "none"
    cells: int = 256
    table_size: int = 512


class SequenceModel(CtrModel):
    """Readers share the frame, which treats what they read alike.

    Args:
        schema: the model's inputs.
        item_fields: dense ids of each catalogue row's fields.
        config: sizes.
        readers: of the long history; those that the config's `counts` names are added.

    Raises:
        ValueError: a size is below 1, or `counts` is "slots" without item slots.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        item_fields: Int[Tensor, "V F"],
        config: SequenceConfig,
        readers: Sequence[Reader],
    ) -> None:
        super().__init__()
        check_at_least(1, heads=config.heads, cells=config.cells, table_size=config.table_size)
        self.schema, self.id_rate = schema, config.id_rate
        self._matched, self._heads = config.matched(schema), config.heads
        _check_slots(readers, config)
        every = [*readers, *_count_readers(schema, item_fields, config)]
        self.readers = nn.ModuleList(every)
        self.frame = Frame(
            schema,
            item_fields,
            config,
            masses=sum(reader.masses for reader in every),
            pooled=sum(reader.pooled for reader in every),
            has_length=bool(every),
        )

    @property
    def _readers(self) -> list[Reader]:
        return [reader for reader in self.readers if isinstance(reader, Reader)]

    @property
    def trains_what_it_serves(self) -> bool:
        """False if a reader is trained in another form than it is served in."""
        return all(reader.trains_what_it_serves for reader in self._readers)

    @property
    def head_fields(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Fields that a head starts with, and fields without a head; None if no reader attends by field."""
        parts = self.readers.modules()
        if not any(isinstance(part, FieldKernel | TargetScore) for part in parts):
            return None
        return self._matched[: self._heads], self._matched[self._heads :]

    @property
    def is_recordable(self) -> bool:
        """True: on a GPU users are not split by length, and no reader looks at values."""
        return True

    def state_spec(self) -> StateSpec:
        """The profile, and the readers' tensors; those of one name are shared."""
        spec = {PROFILE: TensorSpec(PROFILE, (self.frame.profile_dim,))}
        for reader in self._readers:
            spec |= {tensor.name: tensor for tensor in reader.state_spec()}
        return tuple(spec.values())

    def encode(self, user: User) -> UserState:
        """Encode the profile, and the history for each reader."""
        look_up = self.frame.items.look_up(user.history.numel())
        state = {PROFILE: self.frame.encode_profile(user)}
        return state | self._encode(Events(user.history, user.ages, look_up))

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Ask each reader about the candidates."""
        look_up = self.frame.items.look_up(slate.items.numel())
        candidates = Candidates(slate.items, look_up(slate.items))
        stored = State(state, look_up)
        reads = [reader.read(stored, candidates) for reader in self._readers]
        return self.frame.logits(state[PROFILE], context, slate, candidates, reads, look_up)

    def forward(self, user: User, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Encode and score in one call."""
        return self._run(user, context, slate, is_training=False).logits

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """Logits, penalties and auxiliary logits of the readers."""
        return self._run(user, context, slate, is_training=True)

    def _run(self, user: User, context: Context, slate: Slate, *, is_training: bool) -> TrainOutput:
        parts = split_by_length(user, slate.items.shape[1])
        num_events = sum(part.rows.numel() for part in parts) if self._readers else 0
        look_up = self.frame.items.look_up(num_events + slate.items.numel())
        candidates = Candidates(slate.items, look_up(slate.items))
        joint = JointLookUp(parts, look_up)
        found = [
            self._read(events, part.of(candidates), joint, is_training=is_training)
            for events, part in zip(joint.events(), parts, strict=True)
        ]
        reads = [join(parts, every) for every in zip(*found, strict=True)]
        profile = self.frame.encode_profile(user)
        penalties = [read.penalty for read in reads if read.penalty is not None]
        return TrainOutput(
            self.frame.logits(
                profile, context, slate, candidates, [read.read for read in reads], look_up
            ),
            torch.stack(penalties).sum() if penalties else None,
            tuple(logits for read in reads for logits in read.auxiliary),
        )

    def _read(
        self, events: Events, candidates: Candidates, look_up: LookUp, *, is_training: bool
    ) -> list[TrainRead]:
        state = State(self._encode(events), look_up, events)
        if is_training:
            return [reader.train_read(state, candidates) for reader in self._readers]
        return [TrainRead(reader.read(state, candidates)) for reader in self._readers]

    def _encode(self, events: Events) -> UserState:
        state: UserState = {}
        for reader in self._readers:
            state |= reader.encode(events)
        return state

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start the logit at a base rate."""
        self.frame.set_base_log_odds(log_odds)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The readers' slow weights and those of single items learn at their shares of the rate."""
        slow = [weight for reader in self._readers for weight in reader.slow_weights]
        items = self.frame.id_weights, self.id_rate
        return slower_groups(self.parameters(), lr, (slow, self.slow_share), items)

    @property
    def slow_share(self) -> float:
        """Share of the learning rate at which slow weights learn."""
        return 1.0


def _check_slots(readers: Sequence[Reader], config: SequenceConfig) -> None:
    counted = any(isinstance(reader, CountedItemSlots) for reader in readers)
    if config.counts == "slots" and not counted:
        raise ValueError(
            "counts: got 'slots', expected a model with item slots (lrea, slots = 'items')"
        )


def _count_readers(
    schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SequenceConfig
) -> list[Reader]:
    if config.counts in ("none", "slots"):
        return []
    columns = config.layout(schema).columns
    keys = match_keys(item_fields, columns)
    if config.counts == "exact":
        return [CountReader(schema.history_length, keys)]
    if config.counts == "sketch":
        return [SketchReader(keys, config.cells)]
    # Of the rows up to the first prototype, only PADDING has no id.
    first_prototype = 1 + int((item_fields[:, 0] != PADDING).sum())
    table = ItemTableReader(
        schema.history_length, config.table_size, schema.num_items, first_prototype
    )
    return [table, SketchReader(keys[:, 1:], config.cells)] if len(columns) > 1 else [table]
