"""What a cheaper record costs in quality: the test period scored from states that went through a record's bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from builder.dataset import BatchSource, Slates
from builder.evaluate import predict
from builder.graph_timing import USER_ID_BYTES
from builder.metrics import measure
from models.base import CtrModel, UserState
from models.batch import Batch
from models.record import (
    RECORD_DTYPES,
    Array,
    RecordDtype,
    StateSpec,
    UserRecord,
    decode_record,
    encode_record,
    record_bytes,
    stack_states,
)

STORED_SLATES = 4_000
"""Slates that are scored from records: the same for each dtype, so that differences are far finer than AUC itself."""
NO_ARTIFACT = "0" * 32


@dataclass(frozen=True)
class Stored:
    """With records of one dtype.

    Attributes:
        bytes: of a user's record.
        auc: of the targets of `STORED_SLATES` slates.
        log_loss: of these.
    """

    bytes: int
    auc: float
    log_loss: float


def measure_stored(
    model: CtrModel, source: BatchSource, slates: Slates
) -> dict[RecordDtype, Stored]:
    """Size and quality by dtype of the records that users' states are read from.

    A dtype that cannot hold a state (`encode_record`) is left out.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(slates))[:STORED_SLATES])
    measured: dict[RecordDtype, Stored] = {}
    recent = source.events.schema.recent_length
    for dtype in RECORD_DTYPES:
        try:
            found = predict(model, source, slates.at(chosen), _FromRecords(dtype))
        except ValueError:
            continue
        metrics = measure(*found.for_metrics())
        size = record_bytes(model.state_spec(), dtype, USER_ID_BYTES, recent)
        measured[dtype] = Stored(size, metrics.auc, metrics.log_loss)
    return measured


class _FromRecords:
    """Logits of the served graph, with each user's state read from its record."""

    def __init__(self, dtype: RecordDtype) -> None:
        self.dtype = dtype

    def __call__(self, model: CtrModel, batch: Batch) -> Tensor:
        state, spec = model.encode(batch.user), model.state_spec()
        users = [
            self._stored({name: tensor[place].numpy() for name, tensor in state.items()}, spec)
            for place in range(len(batch.user.history))
        ]
        read: UserState = {
            name: torch.from_numpy(tensor) for name, tensor in stack_states(users, spec).items()
        }
        logits: Tensor = model.score(read, batch.context, batch.slate)
        return logits

    def _stored(self, state: Mapping[str, Array], spec: StateSpec) -> Mapping[str, Array]:
        record = UserRecord("", 0, np.zeros(0, np.int32), state)
        return decode_record(
            encode_record(record, spec, NO_ARTIFACT, self.dtype), spec, NO_ARTIFACT
        ).state
