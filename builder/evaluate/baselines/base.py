"""What baselines share: features of candidates, samples to fit on, and a model to measure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from builder.evaluate.history_matches import HistoryMatches, field_keys, find_matches
from builder.ingest.events import Events
from models.base import CtrModel, UserState
from models.batch import Batch, Context, Slate, User
from models.contract.state_spec import StateSpec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """Candidates and the history before them, as `find_matches` reads them."""

    items: Ints
    mask: NDArray[np.bool_]
    history: Ints
    ages: Ints


@dataclass(frozen=True)
class Candidates:
    """N candidates with what their users' histories share with them.

    Attributes:
        popularity: events of the item in the training period, [N].
        matches: events of the history with the same item and other item fields, [N, K].
        fields: dense ids of the candidate fields, [N, Fs].
    """

    popularity: Ints
    matches: HistoryMatches
    fields: Ints


Features = Callable[[Candidates], Floats]
"""Features of candidates, [N, features]."""


@dataclass(frozen=True)
class Samples:
    """Candidates to fit on, [N] each.

    Attributes:
        x: features, [N, features].
        label: 1 or 0.
        weight: in the loss.
        offset: what sampling adds to the log odds (`Batch.offset`).
    """

    x: Floats
    label: Floats
    weight: Floats
    offset: Floats


class Describer:
    """Finds the popularity and the matches of candidates.

    Args:
        events: the log.
    """

    def __init__(self, events: Events) -> None:
        self._keys = list(field_keys(events).values())
        self._popularity = np.asarray(events.train_popularity)
        self._recent_length = events.schema.recent_length

    def candidates(self, user: User, slate: Slate, mask: NDArray[np.bool_]) -> Candidates:
        """The real candidates of a batch, row by row.

        Args:
            user: of the batch.
            slate: of the batch.
            mask: which candidates are real, [B, C].
        """
        items = slate.items.numpy()
        seen = Seen(items, mask, user.history.numpy(), user.ages.numpy())
        matches = find_matches(self._keys, seen, self._recent_length)
        return Candidates(self._popularity[items[mask]], matches, slate.fields.numpy()[mask])


def collect(batches: Iterable[Batch], describer: Describer, features: Features) -> Samples:
    """Samples of all batches."""
    parts = []
    for batch in batches:
        mask = batch.mask.numpy()
        x = features(describer.candidates(batch.user, batch.slate, mask))
        columns = (batch.label, batch.weight, batch.offset.expand_as(batch.label))
        parts.append((x, *(column.double().numpy()[mask] for column in columns)))
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class BaselineModel(CtrModel):
    """A fitted baseline in the place of a model: its state is the history itself.

    Args:
        describer: finds the matches.
        features: makes the features.
        score: features [N, K] -> logits [N].
    """

    def __init__(
        self, describer: Describer, features: Features, score: Callable[[Floats], Floats]
    ) -> None:
        super().__init__()
        self._describer, self._features, self._score = describer, features, score

    def state_spec(self) -> StateSpec:
        """Nothing is stored: a baseline is measured, not served."""
        return ()

    def encode(self, user: User) -> UserState:
        """The history."""
        return {"history": user.history, "ages": user.ages, "fields": user.fields}

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Logits of the candidates."""
        user = User(state["history"], state["ages"], state["fields"])
        every = np.ones(tuple(slate.items.shape), bool)
        logits = self._score(self._features(self._describer.candidates(user, slate, every)))
        return torch.from_numpy(np.asarray(logits, np.float32)).reshape(slate.items.shape)


def one_hot(fields: Ints, sizes: Iterable[int]) -> Floats:
    """A column for each value of each candidate field, [N, sum of sizes]."""
    columns = [fields[:, place, None] == np.arange(size) for place, size in enumerate(sizes)]
    return np.concatenate([np.zeros((len(fields), 0)), *columns], 1).astype(np.float64)
