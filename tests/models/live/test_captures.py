"""Captured requests of a user leave a file, and so do those of unknown users; all other lines keep their bytes."""

import json
import threading
from pathlib import Path

from models.live.captures import FILE, clean_file, clean_folder, concerns, locked
from models.live.keys import tombstone

USER, LONGER = "zqx-81", "zqx-81x"
HASHES = frozenset({tombstone(USER)})


def line(user: object, **more: object) -> bytes:
    body = json.dumps({"user_id": user, "candidates": ["1"]})
    return json.dumps({"path": "/v1/score", "body": body, **more}).encode() + b"\n"


def test_a_line_names_its_users_by_hashes():
    assert concerns(b'{"users": ["%s"]}' % tombstone(USER).encode(), HASHES)
    assert not concerns(line(USER, users=[tombstone("a")]), HASHES)
    assert not concerns(line(USER, users=[]), HASHES)


def test_a_line_of_an_older_version_is_read():
    assert concerns(line(USER), HASHES)
    assert not concerns(line(LONGER), HASHES)
    assert concerns(line(42), {tombstone("42")})


def test_a_line_whose_users_are_unknown_may_be_of_the_user():
    for raw in (
        b"\xff",
        b"[]",
        b'{"path": "/v1/score"}',
        b'{"body": "{"}',
        b'{"body_base64": "AA"}',
    ):
        assert concerns(raw, HASHES)
    assert concerns(line(True), HASHES)
    assert concerns(line(None), HASHES)


def test_other_lines_keep_their_bytes_and_the_file_its_mode(tmp_path: Path):
    path = tmp_path / FILE
    path.write_bytes(line(LONGER) + line(USER) + line("other") + line(USER)[:20])
    path.chmod(0o600)

    assert clean_file(path, HASHES) == 2

    assert path.read_bytes() == line(LONGER) + line("other")
    assert path.stat().st_mode & 0o777 == 0o600
    assert clean_file(path, HASHES) == 0
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_both_files_of_a_folder_are_cleaned_while_nobody_appends(tmp_path: Path):
    for name in (FILE, "slow.1.jsonl"):
        (tmp_path / name).write_bytes(line(USER) + line(LONGER))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(clean_folder(tmp_path, HASHES)))
    with locked(tmp_path):
        thread.start()
        thread.join(0.2)
        assert results == []
    thread.join()
    assert results == [2]


def test_what_does_not_exist_has_no_lines(tmp_path: Path):
    assert clean_file(tmp_path / FILE, HASHES) == 0
    assert clean_folder(tmp_path / "nowhere", HASHES) == 0
