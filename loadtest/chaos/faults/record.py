"""Hostile records: right checksum, owner and artifact, and a content that cannot be scored."""

import struct
import time
import zlib
from dataclasses import replace

import numpy as np

from loadtest.chaos.counters import results_of
from loadtest.chaos.environment import Environment
from loadtest.chaos.expected import MODEL
from loadtest.chaos.scenario import Scenario
from models.contract.artifact import Artifact
from models.contract.record import CHECKSUM, UserRecord, decode_record, encode_record

NUM_RECENT = 5000
"""Latest items of a hostile record; a schema has some dozens."""
HUGE = 3.4e38
"""Finite in float32; a sum or product of two of them is not."""
MARKER = 1234.5678
"""Stands for a number that `encode_record` rejects, until its bytes are replaced."""
CORRUPT = frozenset({"corrupt"})
HOST_TTL_S = 0.3
"""The host tier is on, so that a hostile record in it would be noticed; users are read again in every round."""
RACE_S = 0.05
"""A request sent this short a time after the repair may share a read that began before it."""
RETURN_S = 1.0


def sealed(body: bytes) -> bytes:
    """The body of a record with its checksum."""
    return body + CHECKSUM.pack(zlib.crc32(body))


def hostile_records(raw: bytes, artifact: Artifact) -> list[bytes]:
    """A user's record in fp32 with hostile contents: NaN, +inf, -inf, too many latest items, huge numbers."""
    spec, artifact_id = artifact.manifest.state_spec, artifact.artifact_id
    good = decode_record(raw, spec, artifact_id)

    def encoded(record: UserRecord) -> bytes:
        return encode_record(record, spec, artifact_id, "fp32")

    def filled(number: float) -> UserRecord:
        """The record with this number in every place of its float tensors."""
        floats = [tensor for tensor in spec if tensor.kind == "float"]
        state = {tensor.name: np.full(tensor.shape, number, np.float32) for tensor in floats}
        return replace(good, state={**good.state, **state})

    marked, marker = encoded(filled(MARKER))[: -CHECKSUM.size], struct.pack("<f", MARKER)
    numbers = (float("nan"), float("inf"), -float("inf"))
    not_finite = [sealed(marked.replace(marker, struct.pack("<f", one))) for one in numbers]
    too_many = replace(good, recent=np.resize(good.recent, NUM_RECENT))
    return [*not_finite, encoded(too_many), encoded(filled(HUGE))]


async def hostile(environment: Environment) -> None:
    """Every record becomes hostile, then is repaired: no request fails, and none after the repair is degraded."""
    generation = environment.published
    records = environment.records_of(generation)
    artifact = next(
        one for one in environment.fixtures.artifacts if one.artifact_id == generation.artifact_id
    )
    bad = {
        generation.key(user): _one_of(hostile_records(raw, artifact), number)
        for number, (user, raw) in enumerate(records.items())
    }
    async with environment.fault("hostile records"):
        await environment.cache.put(bad)
        await environment.calm(environment.fault_s)
        await environment.cache.put({generation.key(user): raw for user, raw in records.items()})
        repaired_s = time.monotonic()
    await environment.calm(RETURN_S)
    await _check(environment, repaired_s)


def _one_of(records: list[bytes], number: int) -> bytes:
    return records[number % len(records)]


async def _check(environment: Environment, repaired_s: float) -> None:
    corrupt = [outcome for outcome in environment.outcomes if outcome.source == "corrupt"]
    counted = results_of(await environment.metrics(), MODEL)["corrupt"]
    if counted < len(corrupt):
        environment.problems.append(
            f"corrupt records: got {counted:g} counted, expected at least {len(corrupt)}"
        )
    late = sum(outcome.sent_s > repaired_s + RACE_S for outcome in corrupt)
    if late:
        environment.problems.append(f"{late} answers are corrupt after the records were repaired")


RECORD_FAULTS = (
    Scenario(
        "records-hostile",
        "records with a right checksum that cannot be scored",
        hostile,
        CORRUPT,
        CORRUPT,
        settings={"ABSORB_HOST_CACHE_TTL_S": str(HOST_TTL_S)},
    ),
)
