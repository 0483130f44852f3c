"""What a cheaper record costs in quality: the test period scored from states that went through a record's bytes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.metrics import measure
from builder.evaluate.predict import predict
from builder.experiments.bench.graph_timing import USER_ID_BYTES
from models.base import CtrModel, UserState
from models.batch import Batch
from models.contract.record import (
    RECORD_DTYPES,
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
    found = predict(model, source, slates.at(chosen), _by_dtype)
    spec, recent = model.state_spec(), source.events.schema.recent_length
    measured: dict[RecordDtype, Stored] = {}
    for dtype, probability in zip(RECORD_DTYPES, found.probability.T, strict=True):
        if not np.isnan(probability).any():
            metrics = measure(probability, found.label, found.user)
            size = record_bytes(spec, dtype, USER_ID_BYTES, recent)
            measured[dtype] = Stored(size, metrics.auc, metrics.log_loss)
    return measured


def _by_dtype(model: CtrModel, batch: Batch) -> Float[Tensor, "B C T"]:
    """Logits of the served graph from records of each dtype; NaN where a state does not fit in one."""
    state, spec = model.encode(batch.user), model.state_spec()
    logits = []
    for dtype in RECORD_DTYPES:
        try:
            stored = through_records(state, spec, dtype)
        except ValueError:
            if dtype == "fp32":  # which holds every state that is finite
                raise
            logits.append(torch.full(batch.slate.items.shape, torch.nan))
        else:
            logits.append(model.score(stored, batch.context, batch.slate))
    return torch.stack(logits, -1)


def through_records(state: UserState, spec: StateSpec, dtype: RecordDtype) -> UserState:
    """States as they come out of records.

    Raises:
        ValueError: a state does not fit (`encode_record`).
    """
    users = []
    for place in range(len(next(iter(state.values())))):
        own = {name: tensor[place].numpy() for name, tensor in state.items()}
        record = UserRecord("", 0, np.zeros(0, np.int32), own)
        raw = encode_record(record, spec, NO_ARTIFACT, dtype)
        users.append(decode_record(raw, spec, NO_ARTIFACT).state)
    return {name: torch.from_numpy(tensor) for name, tensor in stack_states(users, spec).items()}
