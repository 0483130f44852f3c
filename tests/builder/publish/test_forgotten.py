"""A publish leaves forgotten users out, also those forgotten while it writes, and no check takes them for lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import PublishError, StepError
from builder.publish.blue_green import publish
from builder.publish.forgotten import COPY, tombstones_of_build, tombstones_of_cache
from builder.publish.generations import count_records, rollback
from builder.publish.rolling import publish_in_place
from models.live.tombstones import Tombstones, bury, lift, read_tombstones
from tests.builder.published import NOW, SPEC, generation_of, publish_new, records

NOW_S = int(NOW.timestamp())


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.publish.records.BATCH_RECORDS", 5)


def test_a_publish_leaves_forgotten_users_out(client):
    bury(client, "user:7", 100)

    serving = publish_new(client, 20).current

    assert serving.num_users == count_records(client, serving) == 19
    assert not client.exists(serving.key("user:7"))
    assert client.exists(serving.key("user:17"))


@pytest.mark.parametrize("user", ["user:2", "user:7", "user:19"])
def test_a_user_who_is_forgotten_while_a_publish_writes_is_not_in_it(client, monkeypatch, user):
    """Forgotten between a batch's check and its write, or long after its write: `forget` removes what it finds."""
    from builder.publish.writers import Sender

    send = Sender.send
    seen: list[bool] = []

    def forget_then_send(sender, batch):
        if not seen and any(name == "user:7" for name, *_ in batch):
            seen.append(bury(client, user, NOW_S))
            client.unlink(sender._generation.key(user))
        send(sender, batch)

    monkeypatch.setattr(Sender, "send", forget_then_send)

    serving = publish_new(client, 20).current

    assert not client.exists(serving.key(user))
    assert count_records(client, serving) == 19


def test_a_publish_in_place_leaves_forgotten_users_out(client):
    publish_new(client, 20)
    bury(client, "user:7", 100)

    pointer = publish_in_place(client, generation_of(20), records(20, 1.0), SPEC, wait_s=1.0)

    assert pointer.current.num_users == 19
    assert count_records(client, pointer.current) == 19


def test_a_lost_record_is_still_noticed(client, monkeypatch):
    bury(client, "user:7", 100)
    monkeypatch.setattr("builder.publish.blue_green.verify", lose)
    with pytest.raises(PublishError, match="the cache holds 19: some were lost"):
        publish_new(client, 20)


def lose(client, generation, sample):
    from builder.publish.records import verify

    client.unlink(generation.key("user:8"))
    verify(client, generation, sample)


def test_a_generation_without_a_forgotten_user_can_be_rolled_back_to(client):
    first = publish_new(client, 20).current
    publish_new(client, 20)
    bury(client, "user:7", NOW_S + 60)
    client.unlink(first.key("user:7"))

    assert rollback(client, "lrea").current == first
    lift(client, "user:7", NOW_S + 90)
    rollback(client, "lrea")
    assert rollback(client, "lrea").current == first


def test_a_user_who_was_forgotten_before_a_generation_excuses_no_loss_from_it(client):
    bury(client, "user:7", NOW_S - 3600)
    first = publish_new(client, 20).current
    publish_new(client, 20)
    client.unlink(first.key("user:8"))

    with pytest.raises(PublishError, match="only 18 are left"):
        rollback(client, "lrea")


def test_a_cache_that_lost_its_tombstones_gets_them_back(client, server: Path, tmp_path: Path):
    url = f"embedded:{server}"
    bury(client, "a", 100)
    known = tombstones_of_build(url, tmp_path)
    assert "a" in known
    client.flushall()

    assert tombstones_of_build(url, tmp_path) == known
    assert read_tombstones(client) == known
    lift(client, "a", 200)
    assert "a" not in tombstones_of_build(url, tmp_path)
    assert "a" not in tombstones_of_cache(client, url, tmp_path)
    assert (tmp_path / COPY).stat().st_mode & 0o777 == 0o600


def test_a_copy_belongs_to_one_cache(client, server: Path, tmp_path: Path):
    bury(client, "a", 100)
    tombstones_of_build(f"embedded:{server}", tmp_path)

    assert tombstones_of_build(f"embedded:{tmp_path / 'other'}", tmp_path) == Tombstones()
    assert not (tmp_path / "other").exists()


def test_a_cache_that_is_down_is_an_error_that_names_the_choice(tmp_path: Path):
    with pytest.raises(StepError, match="start the cache, or build with --without-tombstones"):
        tombstones_of_build("redis://127.0.0.1:1", tmp_path)


def test_a_copy_that_cannot_be_read_is_written_again(client, server: Path, tmp_path: Path):
    (tmp_path / COPY).write_text('{"x": ')
    bury(client, "a", 100)

    assert "a" in tombstones_of_build(f"embedded:{server}", tmp_path)
    assert "a" in tombstones_of_build(f"embedded:{server}", tmp_path)


def test_the_generation_that_is_flipped_counts_what_was_written(client):
    bury(client, "user:1", 100)
    generation = generation_of(4)

    pointer = publish(client, generation, records(4), SPEC)

    assert pointer.current == replace(generation, num_users=3)
