"""How far a stored number may be from the one that a rebuild computes: what folding, the codec and additions round.

With x the number of the rebuild, and C = `FOLDED`·(1 + |x|) what a folder may differ from the encode graph:

    fp32    C
    fp16    C + u(|x| + C) + 2^-25              u = 2^-11; below 2^-14 fp16 has steps of 2^-24
    int8    C + s/2                             s the row's scale, its largest number / 127, rounded up to fp16
    added   (k + 1)·u·M more                    k additions since an encode, each of which rounds a number up to M

A tensor of one axis is stored in fp16 where the record is int8 (`models/contract/tensor_bytes.py`). M is what a full
window of the event with the largest contribution gives.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.contract.age import NUM_AGES
from models.contract.artifact import EVENT, Artifact
from models.contract.state_spec import Array, RecordDtype
from models.live.profile import PROFILE
from service.follow.graph import encoder

FOLDED = 1e-6
UNIT: Mapping[RecordDtype, float] = {"fp32": 2.0**-24, "fp16": 2.0**-11, "int8": 2.0**-11}
"""Largest relative error of one rounding; of int8, that of its scales and of tensors of one axis."""
SUBNORMAL = 2.0**-25


def allowed(values: Array, dtype: RecordDtype) -> NDArray[np.float64]:
    """Largest difference of each number of a tensor that is encoded as a whole, and stored once.

    Args:
        values: the rebuild's tensor.
        dtype: of the record.
    """
    exact: NDArray[np.float64] = np.abs(values.astype(np.float64))
    if np.issubdtype(values.dtype, np.integer):
        return np.zeros_like(exact)
    folded: NDArray[np.float64] = FOLDED * (1 + exact)
    if dtype == "fp32":
        return folded
    if dtype == "fp16" or values.ndim < 2:
        return folded + UNIT[dtype] * (exact + folded) + SUBNORMAL
    largest: NDArray[np.float64] = (exact + folded).max(-1, keepdims=True, initial=0.0)
    # Rounded up, a scale gains one step of fp16 at most. The quotient is rounded in fp32 before it becomes an integer.
    scale: NDArray[np.float64] = largest / 127 * (1 + 2 * UNIT[dtype]) + 2 * SUBNORMAL
    return folded + scale / 2 * (1 + 2.0**-15)


def added(artifact: Artifact, dtype: RecordDtype, folds: int) -> dict[str, NDArray[np.float64]]:
    """What so many additions may round beyond `allowed`: tensor -> largest difference of each number."""
    if EVENT not in artifact.manifest.files or not folds:
        return {}
    schema, spec = artifact.manifest.schema, artifact.manifest.state_spec
    rows, ages = np.meshgrid(np.arange(1, schema.num_items), np.arange(1, NUM_AGES))
    feed = {
        "history": rows.reshape(-1, 1),
        "ages": ages.reshape(-1, 1),
        "user_fields": np.ones((rows.size, len(schema.user_fields)), np.int64),
    }
    tensors = encoder(artifact.graph(EVENT))(feed)
    full = schema.history_length
    return {
        tensor.name: (folds + 1) * UNIT[dtype] * full * np.abs(values).max(0).astype(np.float64)
        for tensor, values in zip(spec, tensors, strict=True)
        if tensor.name != PROFILE
    }
