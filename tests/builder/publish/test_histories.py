"""Base histories beside records: written with them, verified, and removed with their generation."""

from collections.abc import Iterator

import numpy as np
import pytest

from builder.errors import PublishError
from builder.publish.blue_green import publish
from builder.publish.generations import find_generations, read_pointer, remove_generation
from builder.publish.rolling import publish_in_place
from models.contract.generation import Generation
from models.contract.record import Mark, UserRecord, encode_record
from models.live.history import BaseHistory, encode_history
from models.live.keys import history_key, history_pattern
from tests.builder.published import (
    ARTIFACT,
    SPEC,
    assert_only,
    generation_of,
    publish_new,
    raw_record,
    records,
)


def raw_history(user_id: str, row: int = 5, artifact_id: str = ARTIFACT) -> bytes:
    rows, ts_s = np.array([row], np.int32), np.array([6], np.int64)
    return encode_history(BaseHistory(user_id, artifact_id, 7, np.zeros(0, np.int32), rows, ts_s))


def histories(num_users: int, row: int = 5) -> Iterator[tuple[str, bytes]]:
    for number in range(num_users):
        yield f"user:{number}", raw_history(f"user:{number}", row)


def stored(client, generation: Generation) -> dict[str, bytes]:
    pattern = history_pattern(generation.model, generation.place)
    start = len(pattern) - 1
    return {key[start:].decode(): client.get(key) for key in client.scan_iter(pattern)}


def test_every_record_has_its_history(client):
    pointer = publish(client, generation_of(1100), records(1100), SPEC, histories=histories(1100))

    assert stored(client, pointer.current) == dict(histories(1100))
    assert_only(client, pointer)


def test_histories_go_with_their_generation(client):
    for _ in range(3):
        pointer = publish(client, generation_of(20), records(20), SPEC, histories=histories(20))
    assert pointer.previous is not None
    kept = {pointer.current.place, pointer.previous.place}

    assert len(list(client.scan_iter("absorb.history:*"))) == 40
    assert find_generations(client, "lrea") == kept
    remove_generation(client, "lrea", pointer.current.place)
    assert stored(client, pointer.current) == {}


def test_a_history_that_a_killed_builder_left_alone_is_swept(client):
    dead = generation_of(1)
    client.set(history_key(dead, "user:1"), raw_history("user:1"))

    publish_new(client)

    assert not list(client.scan_iter("absorb.history:*"))


def test_in_place_histories_are_overwritten_and_leavers_lose_theirs(client):
    old = publish(client, generation_of(20), records(20), SPEC, histories=histories(20))

    new = publish_in_place(
        client, generation_of(15), records(15, 1.0), SPEC, wait_s=0.0, histories=histories(15, 6)
    )

    assert new.current.place == old.current.place
    assert stored(client, new.current) == dict(histories(15, 6))


def test_in_place_without_histories_the_old_ones_go(client):
    """They are of another build: nothing may be folded into them."""
    publish(client, generation_of(20), records(20), SPEC, histories=histories(20))

    new = publish_in_place(client, generation_of(20), records(20, 1.0), SPEC, wait_s=0.0)

    assert stored(client, new.current) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (list(histories(2)), "base histories, user: got '', expected 'user:2'"),
        (
            [*histories(2), ("x", b"ABSH")],
            "base histories, user: got 'x', expected 'user:2'",
        ),
        ([*histories(2), ("user:2", b"ABSH")], "user 'user:2': record: base history truncated"),
        (
            [*histories(2), ("user:2", raw_history("user:2", 5, "f" * 32))],
            "user 'user:2': record: artifact of the base history is",
        ),
    ],
)
def test_bad_histories_change_nothing(client, source, message):
    old = publish_new(client)

    with pytest.raises(PublishError, match=message):
        publish(client, generation_of(3), records(3), SPEC, histories=iter(source))

    assert read_pointer(client, "lrea")[0] == old
    assert not list(client.scan_iter("absorb.history:*"))


def followed(user_id: str, artifact_id: str = ARTIFACT) -> bytes:
    state = {"rows": np.ones((4, 8), np.float32), "counts": np.ones(4, np.float32)}
    record = UserRecord(user_id, 9, np.array([3], np.int32), state, Mark(2, 9))
    return encode_record(record, SPEC, artifact_id, "fp16")


def test_a_record_that_a_worker_wrote_meanwhile_is_right(client):
    """The worker folds events into a generation that is coming, too."""
    generation = generation_of(20)

    def progress(_: int) -> None:
        client.set(generation.key("user:3"), followed("user:3"))

    publish(client, generation, records(20), SPEC, histories=histories(20), progress=progress)

    assert client.get(generation.key("user:3")) == followed("user:3")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda client, new: client.delete(history_key(new, "user:3")),
            "the base history of user 'user:3' is not what was written",
        ),
        (
            lambda client, new: client.set(new.key("user:3"), raw_record("user:3", 9)),
            "the record of user 'user:3' is not what was written",
        ),
        (
            lambda client, new: client.set(new.key("user:3"), followed("user:3", "f" * 32)),
            "the record of user 'user:3' is not what was written",
        ),
    ],
)
def test_a_write_that_went_wrong_is_noticed(client, damage, message):
    generation = generation_of(20)

    def progress(_: int) -> None:
        damage(client, generation)

    with pytest.raises(PublishError, match=message):
        publish(client, generation, records(20), SPEC, histories=histories(20), progress=progress)
