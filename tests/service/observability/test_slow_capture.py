"""Slow requests: which are captured, and within which limits."""

import asyncio
import json
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.live.captures import BEFORE, FILE
from models.live.keys import tombstone
from service.observability import slow_capture as slow_module
from service.observability.request_context import RequestContext
from service.observability.slow_capture import (
    MAX_KEPT,
    SlowMetrics,
    SlowRequests,
    append,
)
from service.tools.replay import body_of, read_records
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
TOY = Toy()
BODY = {"user_id": "ann", "candidates": ["i1", "i5"]}


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_bytes().splitlines()]


async def until_written(folder: Path, count: int) -> list[dict[str, Any]]:
    for _ in range(500):
        if (folder / FILE).exists() and len(kept(folder)) >= count:
            return kept(folder)
        await asyncio.sleep(0.01)
    raise AssertionError("not written")


async def test_a_slow_request_is_captured_with_everything_for_a_replay(
    world: World, tmp_path: Path
):
    generation = world.publish(TOY)
    folder = tmp_path / "slow"
    async with world.service(slow_ms=1e-6, slow_dir=folder) as service:
        headers = {"x-request-id": "r-1"}
        answer = await service.client.post("/v1/score", json=BODY, headers=headers)
        await service.client.get("/health/live")
        shown = await service.client.get("/v1/slow")
        (record,) = await until_written(folder, 1)
        assert service.metric("absorb_slow_requests_total", route="/v1/score") == 1
    assert json.loads(shown.text) == record
    assert json.loads(record["body"]) == BODY
    assert json.loads(record["answer"]) == answer.json()
    request_fields = {
        name: record[name] for name in ("method", "path", "route", "status", "request_id")
    }
    assert request_fields == {
        "method": "POST",
        "path": "/v1/score",
        "route": "/v1/score",
        "status": 200,
        "request_id": "r-1",
    }
    assert (record["generation"], record["model"], record["source"]) == (
        generation.name,
        "toy",
        "hit",
    )
    assert record["headers"] == {"content-type": "application/json"}
    assert set(record["stages_ms"]) == {"cache", "queue", "decode", "score"}
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("slow_ms", [None, 1e9])
async def test_a_fast_request_is_not_captured(world: World, slow_ms: float | None):
    world.publish(TOY)
    async with world.service(slow_ms=slow_ms) as service:
        await service.score()
        assert (await service.client.get("/v1/slow")).text == ""


def requests(folder: Path | None = None) -> SlowRequests:
    return SlowRequests(1, folder, SlowMetrics(CollectorRegistry()))


def keep(slow: SlowRequests, number: int, body: bytes = b"{}") -> None:
    capture = slow.capture("/v1/score")
    assert capture is not None
    capture.body.append(body)
    scope = {"method": "POST", "path": "/v1/score", "headers": []}
    slow.finish(capture, scope, "/v1/score", 200, 1.0, RequestContext(f"r-{number}"))


def test_the_ring_buffer_keeps_the_latest_within_its_limits():
    slow = requests()
    for number in range(MAX_KEPT + 5):
        keep(slow, number)
    ids = [json.loads(line)["request_id"] for line in slow.lines]
    assert ids == [f"r-{number}" for number in range(MAX_KEPT + 4, 4, -1)]
    for number in range(20):
        keep(slow, number, b"x" * (1 << 19))
    assert sum(map(len, slow.lines)) <= slow_module.MAX_KEPT_BYTES
    keep(slow, 99, b"x" * (2 << 20))
    latest = json.loads(slow.lines[0])
    assert (latest["request_id"], latest["too_long_bytes"]) == ("r-99", 2 << 20)
    assert "body" not in latest


def test_a_full_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slow_module, "MAX_FILE_BYTES", 100)
    for number in range(50):
        append(tmp_path, b"%03d" % number + b"x" * 20 + b"\n")
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert {path.name for path in tmp_path.iterdir()} <= {FILE, BEFORE}
    assert all(size <= 100 + 24 for size in sizes)
    assert (tmp_path / BEFORE).read_bytes().splitlines()[-1].startswith(b"049")


def test_a_line_after_a_torn_one_starts_on_a_new_line(tmp_path: Path):
    append(tmp_path, b'{"n": 1}\n')
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"n": 2, "bo')  # left by a process that was killed
    append(tmp_path, b'{"n": 3}\n')
    append(tmp_path, b'{"n": 4}\n')
    lines = (tmp_path / FILE).read_bytes().splitlines()
    assert lines == [b'{"n": 1}', b'{"n": 2, "bo', b'{"n": 3}', b'{"n": 4}']


def test_a_full_disk_drops_the_line_and_tears_no_other(tmp_path: Path):
    registry = CollectorRegistry()
    metrics = SlowMetrics(registry)
    slow = SlowRequests(1, tmp_path, metrics)
    keep(slow, 1)
    slow.close()
    size = (tmp_path / FILE).stat().st_size
    full = SlowRequests(1, tmp_path, metrics)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        keep(full, 2)
        full.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = SlowRequests(1, tmp_path, metrics)
    keep(after, 3)
    after.close()

    first, torn, last = (tmp_path / FILE).read_bytes().splitlines()
    assert [json.loads(line)["request_id"] for line in (first, last)] == ["r-1", "r-3"]
    assert len(torn) == 20
    assert registry.get_sample_value("absorb_slow_dropped_total") == 1


def test_an_unwritable_folder_drops_lines_and_fails_no_request(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    registry = CollectorRegistry()
    slow = SlowRequests(1, blocked / "folder", SlowMetrics(registry))
    keep(slow, 1)
    slow.close()
    assert registry.get_sample_value("absorb_slow_dropped_total") == 1
    assert len(slow.lines) == 1


def test_a_binary_body_is_captured_unchanged(tmp_path: Path):
    slow = requests(tmp_path)
    keep(slow, 1, b"\xff\x00\x80")
    slow.close()
    (record,) = read_records(tmp_path / FILE)
    assert body_of(record) == b"\xff\x00\x80"


def keep_of(slow: SlowRequests, path: str, status: int, *users: str) -> None:
    capture = slow.capture(path)
    assert capture is not None
    capture.body.append(b"-".join(user.encode() for user in users))
    request = RequestContext("r", users=list(users))
    slow.finish(
        capture, {"method": "POST", "path": path, "headers": []}, path, status, 1.0, request
    )


def bodies(lines: list[bytes]) -> list[str]:
    return sorted(json.loads(line)["body"] for line in lines)


def test_captures_of_a_forgotten_user_leave_memory_and_files_and_none_is_added(tmp_path: Path):
    slow = requests(tmp_path)
    keep_of(slow, "/v1/score", 200, "zqx-81")
    keep_of(slow, "/v1/score", 200, "zqx-81x")
    keep_of(slow, "/v1/score", 504, "zqx-81")
    keep_of(slow, "/v1/score", 504, "b")
    keep_of(slow, "/v2/models/toy/infer", 200, "a", "zqx-81")
    keep_of(slow, "/v2/models/toy/infer", 200, "a", "b")
    keep_of(slow, "/v2/models/toy/infer", 400, "a")  # its other users may not be known
    keep_of(slow, "/v1/score", 400)
    replay = tmp_path / "replay.jsonl"
    replay.write_bytes(b"".join(slow.lines))

    slow.forget(tombstone("zqx-81"), replay)
    keep_of(slow, "/v1/score", 200, "zqx-81")
    keep_of(slow, "/v1/score", 200, "c")

    assert bodies(slow.lines) == ["a-b", "b", "c", "zqx-81x"]
    slow.close()
    assert bodies((tmp_path / FILE).read_bytes().splitlines()) == ["a-b", "b", "c", "zqx-81x"]
    assert bodies(replay.read_bytes().splitlines()) == ["a-b", "b", "zqx-81x"]
    text = (tmp_path / FILE).read_text().replace("zqx-81x", "")
    assert "zqx-81" not in text


def test_the_ring_buffer_counts_its_bytes_after_a_removal():
    slow = requests()
    for at in range(10):
        keep_of(slow, "/v1/score", 200, f"user {at}")
    slow.forget(tombstone("user 3"))
    assert slow._num_bytes == sum(map(len, slow.lines))
    slow.close()


def test_a_file_that_cannot_be_cleaned_is_logged_by_its_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    slow = requests()
    slow.forget(tombstone("zqx-81"), tmp_path)
    slow.close()
    assert "captured requests could not be removed" in caplog.text


async def test_captures_name_their_users_by_hashes(world: World, tmp_path: Path):
    world.publish(TOY)
    folder = tmp_path / "slow"
    async with world.service(slow_ms=1e-6, slow_dir=folder) as service:
        await service.client.post("/v1/score", json=BODY)
        await service.client.post("/v1/compare", json=BODY)
        await service.client.post("/v1/score", content=b"{")
        scored, compared, refused = await until_written(folder, 3)
    assert scored["users"] == compared["users"] == [tombstone("ann")]
    assert "users" not in refused
