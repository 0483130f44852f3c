"""The interface of all readers of a long history.

A reader is cut as a model is: `encode` turns a history into a state offline, `read` asks it about candidates online. It
returns *masses* (how much of the history matches) and *pooled* vectors (what matches), which the frame treats alike for
every reader.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from models.base import UserState
from models.blocks.reading import Candidates, Events, Read
from models.blocks.unit_items import LookUp
from models.contract.state_spec import Ids, StateSpec, TensorSpec

ROWS, AGES = "rows", "event_ages"
"""Tensors of a state that holds the history itself."""
HISTORY: tuple[tuple[str, Ids], ...] = ((ROWS, "rows"), (AGES, "ages"))
"""What their numbers are."""


class State:
    """A state when it is read: its tensors, and the history where the state holds it.

    Args:
        tensors: the model's state.
        look_up: vectors of catalogue rows.
        events: the history, in training; else it is made from the tensors when a reader asks for it.
    """

    def __init__(self, tensors: UserState, look_up: LookUp, events: Events | None = None) -> None:
        self._tensors, self.look_up, self._events = tensors, look_up, events

    def __getitem__(self, name: str) -> Tensor:
        """A tensor of the state."""
        return self._tensors[name]

    @property
    def events(self) -> Events:
        """The history: in training of any reader, online of readers whose state is the history."""
        if self._events is None:
            rows, ages = self[ROWS].long(), self[AGES].long()
            self._events = Events(rows, ages, self.look_up)
        return self._events


@dataclass(frozen=True)
class TrainRead:
    """What a reader gives in training.

    Attributes:
        read: masses and pooled vectors.
        penalty: added to the loss, as a mean over users; None adds nothing.
        auxiliary: further logits, fitted to the same labels.
    """

    read: Read
    penalty: Float[Tensor, ""] | None = None
    auxiliary: tuple[Float[Tensor, "B C"], ...] = ()


class Reader(nn.Module, ABC):
    """One way to read a history.

    Attributes:
        masses: M, number of masses of a candidate.
        pooled: G, number of its pooled vectors.
        trains_what_it_serves: false if `train_read` gives other masses or vectors than `read`.
    """

    masses: int
    pooled: int
    trains_what_it_serves = True

    @property
    def slow_weights(self) -> Sequence[nn.Parameter]:
        """Weights that learn at a lower rate than the others."""
        return ()

    @abstractmethod
    def state_spec(self) -> StateSpec:
        """Spec of what `encode` returns."""

    @abstractmethod
    def encode(self, events: Events) -> UserState:
        """The state of a history."""

    @abstractmethod
    def read(self, state: State, candidates: Candidates) -> Read:
        """Masses and pooled vectors of candidates. Those of a candidate do not depend on the others."""

    def train_read(self, state: State, candidates: Candidates) -> TrainRead:
        """What training fits: by default what is served. Here the state also has the history."""
        return TrainRead(self.read(state, candidates))


class HistoryReader(Reader):
    """A reader whose state is the history itself: catalogue row and age bucket of each event, 8 bytes in all.

    Args:
        length: L.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def state_spec(self) -> StateSpec:
        """Rows and ages, newest last; several readers of a model share them."""
        return tuple(
            TensorSpec(name, (self.length,), "int32", filled="last", ids=ids)
            for name, ids in HISTORY
        )

    def encode(self, events: Events) -> UserState:
        """The history as it is."""
        return {ROWS: events.rows.int(), AGES: events.ages.int()}
