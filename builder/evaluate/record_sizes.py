"""Bytes of the records that a publish would write: mean and largest over a log's users, as of its end.

A record leaves out rows that a user does not fill, so its size depends on the user, but hardly on the weights: an
untrained model's records have the sizes of a trained one's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from builder.dataset.latest import latest_events
from builder.evaluate.predict import device_of
from builder.ingest.events import Events
from models.base import CtrModel
from models.batch import User
from models.contract.record import USER_ID_BYTES, record_bytes
from models.contract.schema import PADDING
from models.contract.state_spec import RECORD_DTYPES, RecordDtype, stored_rows, whole_rows

MAX_USERS = 4_096
"""Users of a larger log are sampled."""
BATCH_USERS = 64
EVENT_BYTES = 8
"""Of the raw history: a row of the catalogue and an age, int32 each."""


@dataclass(frozen=True)
class RecordSizes:
    """Sizes in bytes.

    Attributes:
        mean: dtype -> mean size of a record.
        largest: dtype -> size of the largest record.
        raw: mean size of the same users' raw histories, `EVENT_BYTES` an event, at most L events.
    """

    mean: Mapping[RecordDtype, int]
    largest: Mapping[RecordDtype, int]
    raw: int


def measure_record_sizes(model: CtrModel, events: Events) -> RecordSizes:
    """Sizes for each record dtype.

    Args:
        model: of the log's schema, trained or not, in evaluation mode.
        events: the log.
    """
    spec, recent = model.state_spec(), events.schema.recent_length
    has_counts = any(tensor.has_row_count for tensor in spec)
    rows, num_events = [], []
    for user in _users(events, device_of(model)):
        num_events += (user.history != PADDING).sum(1).tolist()
        rows += _stored(model, user) if has_counts else [whole_rows(spec)] * len(user.history)
    sizes = {
        dtype: [record_bytes(spec, dtype, USER_ID_BYTES, recent, each) for each in rows]
        for dtype in RECORD_DTYPES
    }
    return RecordSizes(
        {dtype: round(float(np.mean(each))) for dtype, each in sizes.items()},
        {dtype: max(each) for dtype, each in sizes.items()},
        round(EVENT_BYTES * float(np.mean(num_events))),
    )


def _stored(model: CtrModel, user: User) -> list[list[int]]:
    with torch.inference_mode():
        state = {name: values.cpu().numpy() for name, values in model.encode(user).items()}
    spec = model.state_spec()
    return [
        stored_rows({name: values[at] for name, values in state.items()}, spec)
        for at in range(len(user.history))
    ]


def _users(events: Events, device: torch.device) -> Iterator[User]:
    order = np.random.default_rng(0).permutation(events.num_users)[:MAX_USERS]
    length, as_of_s = events.schema.history_length, events.as_of_s
    for start in range(0, len(order), BATCH_USERS):
        chosen = order[start : start + BATCH_USERS]
        latest = np.stack([latest_events(events, int(user), length, as_of_s) for user in chosen])
        profile = np.asarray(events.user_fields[chosen])

        def moved(values: np.ndarray) -> Int[Tensor, "B N"]:
            return torch.from_numpy(values.astype(np.int64)).to(device)

        yield User(moved(latest[:, 0]), moved(latest[:, 1]), moved(profile))
