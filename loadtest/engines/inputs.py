"""Slates for the engines: real users of a file of records, candidates drawn from the catalogue."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from loadtest.record_file import read_record_file
from models.contract.artifact import Artifact
from models.contract.record import decode_record
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from service.runtime.engines.engine import EngineSlate

SLOT_ITEMS, SLOT_SUMS = "slot_items", "slot_sums"


def read_slates(artifact: Artifact, records: Path, users: int, seed: int = 0) -> list[EngineSlate]:
    """Slates without candidates of users spread over the file.

    Raises:
        ValueError: the file holds no record.
        RecordError: a record is damaged, or another artifact made it.
    """
    raw = read_record_file(records)
    rng, schema = np.random.default_rng(seed), artifact.manifest.schema
    step = max(len(raw) // users, 1)
    slates = []
    for one in islice(raw, 0, step * users, step):
        record = decode_record(one, artifact.manifest.state_spec, artifact.artifact_id)
        context = [rng.integers(UNKNOWN, field.size) for field in schema.context_fields]
        slates.append(
            EngineSlate(
                record.state,
                np.asarray(record.recent, np.int64),
                np.array(context, np.int64),
                np.zeros(0, np.int64),
                np.zeros((0, len(schema.candidate_fields)), np.int64),
            )
        )
    return slates


def with_candidates(
    slate: EngineSlate, artifact: Artifact, candidates: int, rng: np.random.Generator
) -> EngineSlate:
    """The user with other candidates, drawn from the whole catalogue."""
    schema = artifact.manifest.schema
    fields = [rng.integers(UNKNOWN, field.size, candidates) for field in schema.candidate_fields]
    return replace(
        slate,
        items=rng.integers(FIRST_KNOWN, schema.num_items, candidates),
        fields=np.stack(fields, 1) if fields else np.zeros((candidates, 0), np.int64),
    )


def with_all_slots(slate: EngineSlate, num_items: int, rng: np.random.Generator) -> EngineSlate:
    """The user with further items in the empty slots, so that none can be skipped."""
    rows, sums = slate.state[SLOT_ITEMS].copy(), slate.state[SLOT_SUMS].copy()
    is_empty = rows == 0
    rows[is_empty] = rng.integers(FIRST_KNOWN, num_items, is_empty.sum())
    sums[is_empty] = 1.0
    return replace(slate, state={**slate.state, SLOT_ITEMS: rows, SLOT_SUMS: sums})


def filled_slots(slate: EngineSlate) -> int:
    """Number of slots that hold an item."""
    return int(np.count_nonzero(slate.state[SLOT_ITEMS]))
