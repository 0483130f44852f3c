"""Publish in place against a real server: at every moment each record is whole, and its artifact is named."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from builder.errors import PublishError
from builder.publish.blue_green import publish
from builder.publish.generations import count_all, new_generation, read_pointer, rollback
from builder.publish.rolling import publish_in_place
from builder.publish.services import announcements
from models.contract.announcement import (
    MAX_ANNOUNCEMENT_BYTES,
    SERVICES_KEY,
    Announcement,
    heartbeat_key,
)
from models.contract.generation import (
    MAX_OVER,
    Generation,
    Overwritten,
    Pointer,
    lock_key,
)
from models.contract.record import record_artifact
from tests.builder.published import ARTIFACT, NOW, SPEC, raw_record

A, B, C = ARTIFACT, "b" * 32, "c" * 32
Records = Iterator[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.publish.records.BATCH_RECORDS", 50)


def records_of(users: range, artifact_id: str, value: float = 0.0) -> Records:
    for number in users:
        yield f"user:{number}", raw_record(f"user:{number}", value, artifact_id)


def roll(
    client,
    artifact_id: str,
    users: range = range(120),
    source: Records | None = None,
    wait_s: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> Pointer:
    generation = new_generation("lrea", artifact_id, len(users), 7, "fp16", NOW)
    records = source or records_of(users, artifact_id)
    return publish_in_place(client, generation, records, SPEC, wait_s=wait_s, progress=progress)


def pointer_of(client) -> Pointer:
    pointer, _ = read_pointer(client, "lrea")
    assert pointer
    return pointer


def interrupted(users: int, artifact_id: str) -> Records:
    yield from records_of(range(users), artifact_id)
    raise ZeroDivisionError("the builder dies")


def artifacts(client, generation: Generation) -> dict[str | None, int]:
    """Artifact id -> its records under a generation's keys."""
    keys = list(client.scan_iter(generation.key_pattern(), 1000))
    return dict(Counter(map(record_artifact, client.mget(keys))))


def blue_green(client, artifact_id: str = A, users: range = range(120)) -> Pointer:
    generation = new_generation("lrea", artifact_id, len(users), 7, "fp16", NOW)
    return publish(client, generation, records_of(users, artifact_id), SPEC)


def present(client, service: str, loaded: object) -> None:
    client.sadd(SERVICES_KEY, service)
    client.set(heartbeat_key(service), json.dumps(loaded), ex=60)


def test_the_first_publish_has_nothing_to_overwrite(client):
    pointer = roll(client, A)
    assert (pointer.previous, pointer.current.slot, pointer.current.over) == (None, "", ())
    assert artifacts(client, pointer.current) == {A: 120}


def test_records_are_overwritten_where_they_lie_and_never_doubled(client, caplog):
    caplog.set_level(logging.INFO, "builder.publish.rolling")
    old = blue_green(client).current
    keys: list[int] = []
    mixed: list[Pointer] = []

    def progress(_: int) -> None:
        keys.append(client.dbsize())
        mixed.append(pointer_of(client))

    new = roll(client, B, range(20, 130), progress=progress)

    assert (
        max(keys) <= 130 + 4
    )  # records of both logs' users, pointer, list of models, default, lock
    assert artifacts(client, new.current) == {B: 110}
    assert count_all(client)["lrea"] == {old.name: 110}
    assert {pointer.current.over for pointer in mixed} == {(Overwritten(old.name, A),)}
    assert new == Pointer(replace(mixed[0].current, over=()), old)
    assert (new.current.place, pointer_of(client)) == (old.name, new)
    assert client.get(new.current.key("user:129")) == raw_record("user:129", artifact_id=B)
    assert not client.exists(new.current.key("user:19"))
    assert "model lrea: removed 20 users that left the log" in caplog.messages
    assert not client.exists(lock_key("lrea"))


def test_an_older_build_that_was_kept_for_rollback_goes(client):
    blue_green(client)
    blue_green(client)
    new = roll(client, B)
    assert count_all(client)["lrea"] == {new.current.place: 120}


def test_again_and_again_under_the_same_keys(client):
    first = blue_green(client).current
    for artifact_id in (B, B, C, A):
        pointer = roll(client, artifact_id)
        assert (pointer.current.place, pointer.current.over) == (first.name, ())
        assert artifacts(client, pointer.current) == {artifact_id: 120}


def test_an_interrupted_one_is_completed_by_the_next(client):
    old = blue_green(client).current
    with pytest.raises(ZeroDivisionError):
        roll(client, B, source=interrupted(70, B))
    mixture = pointer_of(client)
    assert mixture.current.over == (Overwritten(old.name, A),)
    assert artifacts(client, mixture.current) == {B: 50, A: 70}

    new = roll(client, B)

    assert new.current.over == ()
    assert artifacts(client, new.current) == {B: 120}


def test_an_interrupted_one_is_reverted_by_the_old_artifact(client):
    blue_green(client)
    with pytest.raises(ZeroDivisionError):
        roll(client, B, source=interrupted(70, B))
    seen: list[tuple[Overwritten, ...]] = []

    back = roll(client, A, progress=lambda _: seen.append(pointer_of(client).current.over))

    assert [one.artifact_id for one in seen[0]] == [B]
    assert artifacts(client, back.current) == {A: 120}


def test_a_mixture_of_three_names_all_three(client):
    first = blue_green(client).current
    with pytest.raises(ZeroDivisionError):
        roll(client, B, source=interrupted(110, B))
    with pytest.raises(ZeroDivisionError):
        roll(client, C, source=interrupted(60, C))
    mixture = pointer_of(client).current
    assert artifacts(client, mixture) == {A: 20, B: 50, C: 50}
    assert [one.artifact_id for one in mixture.over] == [B, A]
    assert mixture.place == first.name


def test_a_mixture_of_more_artifacts_than_services_load_is_refused_before_it_is_written(client):
    blue_green(client)
    for number in range(MAX_OVER):
        with pytest.raises(ZeroDivisionError):
            roll(client, f"{number:032x}", source=interrupted(1, f"{number:032x}"))
    mixture = pointer_of(client)
    assert len(mixture.current.over) == MAX_OVER

    with pytest.raises(PublishError, match=f"expected at most {MAX_OVER}. Publish once with"):
        roll(client, C)

    assert pointer_of(client) == mixture
    assert blue_green(client, C).current.over == ()


def test_a_bad_record_leaves_a_mixture_and_the_error(client, caplog):
    blue_green(client)
    source = iter([*records_of(range(50), B), ("x", raw_record("y", artifact_id=B))])
    with pytest.raises(PublishError, match="user 'x': record: user is 'y'"):
        roll(client, B, range(51), source)
    mixture = pointer_of(client).current
    assert artifacts(client, mixture) == {B: 50, A: 70}
    assert "each record is scored by the artifact that made it" in caplog.text


def test_what_a_killed_builder_left_is_swept(client):
    blue_green(client)
    left = new_generation("lrea", B, 1, 7, "fp16", NOW)
    client.set(left.key("user:1"), b"left")
    roll(client, B)
    assert not client.exists(left.key("user:1"))


def test_a_service_that_has_not_loaded_both_stops_it_before_anything_changes(client):
    old = blue_green(client)
    before = artifacts(client, old.current)
    present(client, "late-1", {"lrea": old.current.name})
    present(client, "broken-2", {"lrea": None})
    present(client, "of-another-model-3", {"other": "g"})
    client.sadd(SERVICES_KEY, "dead-4")

    with pytest.raises(PublishError, match="broken-2, late-1; nothing is overwritten") as caught:
        roll(client, B, wait_s=0.1)

    assert B in str(caught.value)
    assert pointer_of(client) == old
    assert artifacts(client, old.current) == before
    assert announcements(client).keys() == {"late-1", "broken-2", "of-another-model-3"}
    assert client.smembers(SERVICES_KEY) == {b"late-1", b"broken-2", b"of-another-model-3"}


def test_a_service_with_an_unreadable_announcement_is_not_waited_for(client):
    blue_green(client)
    deep, long = b"[" * 100_000, b"{" + b" " * (MAX_ANNOUNCEMENT_BYTES + 1) + b"}"
    for raw in (b"\xff", b"[]", deep, long, b'{"lrea": 5, "1": ["x"]}'):
        client.sadd(SERVICES_KEY, "odd")
        client.set(heartbeat_key("odd"), raw)
        assert announcements(client) == {"odd": Announcement({}, has_notes=False)}
    client.delete(heartbeat_key("odd"))
    client.rpush(heartbeat_key("odd"), "no string")
    client.sadd(SERVICES_KEY, b"no text \xff", b"nor this \xff")
    client.set(heartbeat_key("no text \ufffd"), "{}")
    unreadable = Announcement({}, has_notes=False)
    assert announcements(client) == {"odd": unreadable, "no text \ufffd": unreadable}
    assert client.smembers(SERVICES_KEY) == {b"odd", b"no text \xff"}
    assert roll(client, B).current.over == ()


def test_a_lost_lock_stops_the_overwriting(client):
    blue_green(client)

    def lose(_: int) -> None:
        client.set(lock_key("lrea"), "another builder abc", px=60_000)

    with pytest.raises(PublishError, match="lost the lock"):
        roll(client, B, range(30), progress=lose)

    mixture = pointer_of(client).current
    assert artifacts(client, mixture) == {B: 30, A: 90}  # no user of the log was removed
    client.delete(lock_key("lrea"))


def test_a_rollback_says_that_the_records_are_gone_and_what_to_do(client):
    old = blue_green(client).current
    new = roll(client, B).current
    with pytest.raises(PublishError, match=f"has overwritten the records of {old.name}") as caught:
        rollback(client, "lrea")
    assert f"republish RECIPE {A}" in str(caught.value)
    assert artifacts(client, new) == {B: 120}


def test_a_rollback_during_a_rolling_publish_names_the_reason(client):
    blue_green(client)
    with pytest.raises(ZeroDivisionError):
        roll(client, B, source=interrupted(70, B))
    with pytest.raises(PublishError, match="is overwriting the records"):
        rollback(client, "lrea")


@pytest.mark.parametrize("is_mixed", [False, True])
def test_after_a_blue_green_publish_the_rolled_one_can_serve_again(client, is_mixed: bool):
    blue_green(client)
    if is_mixed:
        with pytest.raises(ZeroDivisionError):
            roll(client, B, source=interrupted(70, B))
    else:
        roll(client, B)
    rolled = pointer_of(client).current
    new = blue_green(client, C).current

    back = rollback(client, "lrea")

    assert back == Pointer(rolled, new)
    assert bool(back.current.over) == is_mixed
    assert artifacts(client, back.current) == ({B: 50, A: 70} if is_mixed else {B: 120})
