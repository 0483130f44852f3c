"""`absorb forget` on a real build: what it removes, what it says, and what the next build makes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.forget.run import Places, forget
from builder.forget.runs import REPORTS, run_folders
from builder.gate.report import JSON, MARKDOWN
from builder.ingest.events import read_user_ids
from builder.pipeline import STEPS, Build, is_due, run_step
from builder.publish.cache import CacheClient
from builder.publish.generations import count_records, read_pointer, rollback
from models.live.captures import FILE
from models.live.event import Event
from models.live.keys import IN_KEY, shown_user, tombstone
from models.live.log import append
from models.live.tombstones import is_forgotten


@pytest.fixture
def shop(build: Build, server: Path, client: CacheClient) -> Build:
    """A build that is published to a cache of its own, in a folder of runs."""
    shop = replace(build, cache_url=f"embedded:{server}")
    with shop.folder.locked():
        run_step(shop, "publish")
        run_step(shop, "publish")
    return shop


def places(build: Build, **more: Any) -> Places:
    return Places(build.cache_url, build.folder.path.parent, build.artifacts, **more)


def what(lines) -> list[str]:
    return [line.what for line in lines]


def test_a_user_leaves_the_cache_and_the_run_folder(shop: Build, client: CacheClient) -> None:
    user, other = shop.events().user_ids[3:5]
    artifact_id = shop.artifact().artifact_id
    append(client, user, [Event("e1", user, "i", 5)])
    client.xadd(IN_KEY, {"e": Event("e1", user, "i", 5).to_bytes()})

    (report,) = forget(client, [user], places(shop))

    pointer, _ = read_pointer(client, shop.recipe.serve_as)
    assert pointer
    assert pointer.previous
    for generation in (pointer.current, pointer.previous):
        assert not client.exists(generation.key(user))
        assert client.exists(generation.key(other))
    assert is_forgotten(client, user)
    assert not shop.folder.events.exists()
    assert not shop.folder.records.exists()
    assert not shop.folder.histories.exists()
    assert shop.folder.stamps() == {}
    assert report.user == tombstone(user)
    assert report.is_new
    assert report.to_do == []
    assert what(report.removed).count("record") == 2
    assert what(report.removed).count("base history") == 2
    assert "append-only file written anew" in what(report.removed)
    left = "\n".join(f"{line.where}: {line.what}" for line in report.left)
    assert f"artifact {artifact_id}, made" in left
    assert "weights that may be trained on the user; retrain: absorb build" in left
    rollback(client, shop.recipe.serve_as)


def test_the_next_build_is_whole_and_without_the_user(shop: Build, client: CacheClient) -> None:
    user = shop.events().user_ids[3]
    forget(client, [user], places(shop))
    assert is_due(shop, "ingest")

    with shop.folder.locked():
        for name in STEPS:
            run_step(shop, name)

    assert not any(is_due(shop, name) for name in STEPS)
    assert user not in read_user_ids(shop.folder.events)
    pointer, _ = read_pointer(client, shop.recipe.serve_as)
    assert pointer
    assert pointer.current.num_users == count_records(client, pointer.current) == 59
    (report,) = forget(client, [user], places(shop))
    assert not report.is_new
    made = [line for line in report.left if line.where.startswith("artifact")]
    assert not any(shop.artifact().artifact_id in line.where for line in made)


def test_a_second_run_removes_nothing(shop: Build, client: CacheClient) -> None:
    user = shop.events().user_ids[3]
    (first,) = forget(client, [user], places(shop, rewrites=False))
    (second,) = forget(client, [user], places(shop, rewrites=False))
    assert first.is_new
    assert not second.is_new
    assert second.removed == []
    assert second.forgotten_s == first.forgotten_s


def test_a_folder_at_work_is_to_be_done_again(shop: Build, client: CacheClient) -> None:
    user = shop.events().user_ids[3]
    with shop.folder.locked():
        (report,) = forget(client, [user], places(shop))
    assert len(report.to_do) == 1
    assert "is being built by another builder" in report.to_do[0].what
    assert user in shop.events().user_ids

    (again,) = forget(client, [user], places(shop))
    assert again.to_do == []
    assert not shop.folder.events.exists()


def test_a_folder_without_the_user_is_left_alone(shop: Build, client: CacheClient) -> None:
    (report,) = forget(client, ["never seen 81"], places(shop))
    assert shop.events().num_users == 60
    assert not any(is_due(shop, name) for name in STEPS)
    assert not any(str(shop.folder.path) == line.where for line in report.removed)


def test_what_a_killed_builder_left_goes_too(shop: Build, client: CacheClient) -> None:
    run = shop.folder.path
    for name in ("events.new", "records.bin.new", "histories.bin.new"):
        (run / name).write_text("somebody")
    forget(client, ["never seen 81"], places(shop))
    assert not list(run.glob("*.new"))


def test_a_log_loses_the_id_and_not_the_numbers(shop: Build, client: CacheClient) -> None:
    log = shop.folder.log
    log.write_text("user '42': corrupt\n42 users\nwrote user zqx-81, not zqx-81x\n")

    forget(client, ["42", "zqx-81"], places(shop))

    assert log.read_text() == (
        "user (forgotten): corrupt\n42 users\nwrote user (forgotten), not zqx-81x\n"
    )


OLD_JSON = {
    "verdict": "refused",
    "rankings": {
        "percentiles": {"50": 0.1, "99": 1.0},
        "worst": [
            ["user 50 at 1744051355", 1.0],
            ["user u152 at 50", 0.9],
            ["user é x at 50", 0.8],
        ],
    },
}


def test_reports_of_older_gates_lose_the_id_and_nothing_else(
    shop: Build, client: CacheClient
) -> None:
    """Also in a folder that holds nothing else: one of a trial, or of a run that was forgotten by an older version."""
    assert {JSON, MARKDOWN} < set(REPORTS)
    users = ["50", "u152", "é x"]
    trial = shop.folder.path.parent / "trial"
    trial.mkdir()
    for folder in (shop.folder.path, trial):
        (folder / JSON).write_text(json.dumps(OLD_JSON, indent=1))
        (folder / MARKDOWN).write_text(
            "| p50 | 50 |\n- user 50 at 50: 1.000\n- user u152 at 50: 0.9\n"
        )

    reports = forget(client, users, places(shop))

    names = [shown_user(user) for user in users]
    for folder in (shop.folder.path, trial):
        found = json.loads((folder / JSON).read_text())
        assert found["verdict"] == "refused"
        assert found["rankings"]["percentiles"] == {"50": 0.1, "99": 1.0}
        assert [name.split()[1] for name, _ in found["rankings"]["worst"]] == names
        assert (folder / MARKDOWN).read_text() == (
            f"| p50 | 50 |\n- user {names[0]} at 50: 1.000\n- user {names[1]} at 50: 0.9\n"
        )
        for report in reports:
            assert str(folder / JSON) in [line.where for line in report.removed]
    assert not any(
        str(trial) in line.where
        for report in forget(client, users, places(shop))
        for line in report.removed
    )


def test_an_audit_loses_an_id_that_is_the_value_of_a_field(
    shop: Build, client: CacheClient
) -> None:
    run = shop.folder.path
    kept = [{"rule": "user part", "group": "1 to 2", "part": "part", "verdict": "fails"}]
    own = [{"rule": "user part", "group": "part", "within": "user part: part", "verdict": "fails"}]
    (run / "audit.json").write_text(json.dumps([*own, *kept], indent=1))
    (run / "audit.md").write_text("| train | user part: part | 7 |\n| train | part | 7 |\n")

    forget(client, ["part", "fails", "7"], places(shop))

    name = shown_user("part")
    (found, other) = json.loads((run / "audit.json").read_text())
    assert found == own[0] | {"group": name, "within": f"user part: {name}"}
    assert [other] == kept
    assert (run / "audit.md").read_text() == (
        f"| train | user part: {name} | 7 |\n| train | part | 7 |\n"
    )


def test_folders_of_prepared_logs_are_found_wherever_they_lie(shop: Build, tmp_path: Path) -> None:
    shop.events().save(tmp_path / "elsewhere" / "deep" / "events")
    assert run_folders([tmp_path / "elsewhere"]) == [tmp_path / "elsewhere" / "deep"]
    assert shop.folder.path in run_folders([shop.folder.path.parent])


def test_captured_requests_go_from_files_and_folders(
    shop: Build, client: CacheClient, tmp_path: Path
) -> None:
    folder, file = tmp_path / "slow", tmp_path / "replay.jsonl"
    folder.mkdir()
    line = json.dumps({"users": [tombstone("zqx-81")], "body": "zqx-81"}) + "\n"
    other = json.dumps({"users": [tombstone("b")], "body": "b"}) + "\n"
    for path in (folder / FILE, file):
        path.write_text(line + other)

    (report,) = forget(client, ["zqx-81"], places(shop, captured=[folder, file]))

    assert (folder / FILE).read_text() == file.read_text() == other
    assert what(report.removed).count("captured requests") == 2


def test_an_artifact_that_holds_the_raw_id_is_named(shop: Build, client: CacheClient) -> None:
    folder = shop.artifacts / shop.artifact().artifact_id
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    vocabulary["context"]["hour"] = ["zqx-81"]
    vocabulary["items"] = ["item-7"]
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))

    (of_user, of_item) = forget(client, ["zqx-81", "item-7"], places(shop))

    text = "vocabulary.json holds the raw id as a value of a field"
    assert sum(text in line.what for line in of_user.left) == 1
    assert not any(text in line.what for line in of_item.left)


def test_the_log_of_slow_commands_is_emptied_if_it_names_the_user(
    shop: Build, client: CacheClient
) -> None:
    client.config_set("slowlog-log-slower-than", 0)
    client.get("absorb:x:zqx-81")
    client.config_set("slowlog-log-slower-than", -1)
    assert "zqx-81" in str(client.slowlog_get(100))

    forget(client, ["zqx-81"], places(shop))

    assert "zqx-81" not in str(client.slowlog_get(100))


def test_no_report_names_the_user(shop: Build, client: CacheClient) -> None:
    (report,) = forget(client, ["zqx-81"], places(shop))
    assert "zqx-81" not in json.dumps(report.to_dict())
