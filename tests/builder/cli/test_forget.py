"""`absorb forget` on the command line."""

import json
from pathlib import Path

from builder.publish.cache import CacheClient
from models.live.keys import tombstone
from models.live.tombstones import is_forgotten
from tests.builder.cli.conftest import Call
from tests.builder.published import publish_new


def options(server: Path, tmp_path: Path) -> list[str]:
    return [
        *("--cache", f"embedded:{server}"),
        *("--runs", str(tmp_path / "runs"), "--artifacts", str(tmp_path / "artifacts")),
    ]


def test_a_user_is_forgotten_listed_and_allowed_again(
    call: Call, server: Path, client: CacheClient, tmp_path: Path
) -> None:
    serving = publish_new(client).current
    where = options(server, tmp_path)

    done = call("forget", "user:7", *where)

    assert done.code == 0
    assert f"user {tombstone('user:7')[:12]}…: forgotten" in done.out
    # No terminal: a row is a line, whatever its length.
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [f"absorb:{serving.model}:{serving.name}:*", "record", "1"] in rows
    assert "user:7" not in done.out + done.err
    assert not client.exists(serving.key("user:7"))
    assert client.exists(serving.key("user:17"))
    again = call("forget", "user:7", *where)
    assert "was forgotten before, and nothing is left to remove" in again.out
    listed = call("forget", "--list", *where)
    assert tombstone("user:7") in listed.out
    assert "1 forgotten users, 0 allowed again" in listed.out
    allowed = call("forget", "user:7", "--allow-again", *where)
    assert "is allowed again" in allowed.out
    assert not is_forgotten(client, "user:7")
    assert "was not forgotten" in call("forget", "user:7", "--allow-again", *where).out


def test_the_report_as_json(call: Call, server: Path, client: CacheClient, tmp_path: Path) -> None:
    publish_new(client)
    done = call("forget", "user:7", "user:8", "--json", *options(server, tmp_path))
    reports = json.loads(done.out)
    assert [report["user"] for report in reports] == [tombstone("user:7"), tombstone("user:8")]
    assert all(report["is_new"] and report["removed"] and report["left"] for report in reports)


def test_what_cannot_be_an_id_is_refused(call: Call, server: Path, tmp_path: Path) -> None:
    for arguments in ([], [""], ["a\nb"], ["a", "--list"]):
        done = call("forget", *arguments, *options(server, tmp_path))
        assert done.code == 2


def test_a_cache_that_is_down_is_an_error_and_nothing_is_done(call: Call, tmp_path: Path) -> None:
    done = call("forget", "user:7", "--cache", "redis://127.0.0.1:1", "--runs", str(tmp_path))
    assert done.code == 1
    assert "user:7" not in done.err
    assert list(tmp_path.iterdir()) == []
