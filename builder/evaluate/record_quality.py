"""Quality by record dtype: the test period scored from states that were encoded to record bytes and decoded again."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.measure import whole_slates
from builder.evaluate.metrics.targets import measure
from builder.evaluate.predict import device_of, predict
from builder.evaluate.record_sizes import measure_record_sizes
from builder.evaluate.slate_evaluation import evaluate_slates
from models.base import CtrModel, UserState
from models.batch import Batch
from models.contract.record import UserRecord, decode_record, encode_record
from models.contract.state_spec import RECORD_DTYPES, RecordDtype, StateSpec, stack_states

QUALITY_SLATES = 4_000
"""Number of slates that are scored. They are the same for each dtype, so differences are less noisy than the AUC."""
QUALITY_POOLS = 512
"""Number of slates whose whole pools are scored, in a log with pools."""
NO_ARTIFACT = "0" * 32


@dataclass(frozen=True)
class RecordQuality:
    """Size and quality of records of one dtype.

    Attributes:
        bytes: mean size of a record over the log's users (`record_sizes.py`).
        largest_bytes: size of the largest of these records.
        auc: AUC over the targets of `QUALITY_SLATES` slates, or over `QUALITY_POOLS` whole pools.
        log_loss: mean log loss over the same targets, nats.
    """

    bytes: int
    largest_bytes: int
    auc: float
    log_loss: float


def measure_record_quality(
    model: CtrModel, source: BatchSource, slates: Slates
) -> dict[RecordDtype, RecordQuality]:
    """Measure size and quality for each record dtype.

    A dtype that cannot hold a state (`encode_record`) is left out.
    """
    if source.has_pools:
        return _measure_pools(model, source, slates)
    chosen = np.sort(np.random.default_rng(0).permutation(len(slates))[:QUALITY_SLATES])
    predictions = predict(model, source, slates.at(chosen), _by_dtype)
    sizes = measure_record_sizes(model, source.events)
    measured: dict[RecordDtype, RecordQuality] = {}
    for dtype, probability in zip(RECORD_DTYPES, predictions.probability.T, strict=True):
        if not np.isnan(probability).any():
            metrics = measure(probability, predictions.label, predictions.user)
            measured[dtype] = RecordQuality(
                sizes.mean[dtype], sizes.largest[dtype], metrics.auc, metrics.log_loss
            )
    return measured


def _measure_pools(
    model: CtrModel, source: BatchSource, slates: Slates
) -> dict[RecordDtype, RecordQuality]:
    spec, sizes = model.state_spec(), measure_record_sizes(model, source.events)
    measured: dict[RecordDtype, RecordQuality] = {}
    for dtype in RECORD_DTYPES:
        batches = whole_slates(source, slates, device_of(model), count=QUALITY_POOLS)
        forward = partial(_through, model, spec, dtype)
        try:
            report, _ = evaluate_slates(forward, batches, len(source.events.item_fields))
        except ValueError:
            if dtype == "fp32":  # it holds every finite state
                raise
            continue
        test = report["test"]
        measured[dtype] = RecordQuality(
            sizes.mean[dtype], sizes.largest[dtype], test["auc"], test["log_loss"]
        )
    return measured


def _through(
    model: CtrModel, spec: StateSpec, dtype: RecordDtype, batch: Batch
) -> Float[Tensor, "B C"]:
    """Logits of the served graph from records of a dtype."""
    stored = through_records(model.encode(batch.user), spec, dtype)
    logits: Float[Tensor, "B C"] = model.score(stored, batch.context, batch.slate)
    return logits


def _by_dtype(model: CtrModel, batch: Batch) -> Float[Tensor, "B C T"]:
    """Logits of the served graph from records of each dtype T; NaN where a state does not fit in the dtype."""
    state, spec = model.encode(batch.user), model.state_spec()
    logits = []
    for dtype in RECORD_DTYPES:
        try:
            stored = through_records(state, spec, dtype)
        except ValueError:
            if dtype == "fp32":  # it holds every finite state
                raise
            logits.append(torch.full_like(batch.label, torch.nan))
        else:
            logits.append(model.score(stored, batch.context, batch.slate))
    return torch.stack(logits, -1)


def through_records(state: UserState, spec: StateSpec, dtype: RecordDtype) -> UserState:
    """Encode states to records and decode them again.

    Raises:
        ValueError: a state does not fit into the dtype (`encode_record`).
    """
    users = []
    for row in range(len(next(iter(state.values())))):
        arrays = {name: tensor[row].cpu().numpy() for name, tensor in state.items()}
        record = UserRecord("", 0, np.zeros(0, np.int32), arrays)
        raw = encode_record(record, spec, NO_ARTIFACT, dtype)
        users.append(decode_record(raw, spec, NO_ARTIFACT).state)
    device = next(iter(state.values())).device
    stacked = stack_states(users, spec)
    return {name: torch.from_numpy(tensor).to(device) for name, tensor in stacked.items()}
