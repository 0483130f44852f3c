"""The chain of steps: a step runs once, runs again only after a change, and never uses an unfinished output."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.errors import LeakError, PublishError, StepError
from builder.export.precompute import read_records
from builder.ingest.events import Events
from builder.pipeline import STEPS, Build, fingerprints, is_due, republish, run_step
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import count_records, read_pointer, rollback
from builder.recipe.audit import Allowed, AuditRule
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import PublishRule, Recipe
from builder.run_folder import RunFolder
from models.contract.calibration import calibration_to_dict
from models.contract.errors import CacheUnavailableError
from models.contract.record import decode_record
from models.contract.schema import FIRST_KNOWN
from models.live.tombstones import bury
from tests.builder.logs import log_frame, write_log
from tests.builder.pool_logs import write_pools
from tests.builds import STEPS as TRAINING_STEPS

ROOT = Path(__file__).parents[2]
NAMES = list(STEPS)
DIE_TRAINING = """
import os, signal, sys
from pathlib import Path
from builder.run_folder import RunFolder
from builder.pipeline import Build, run_step
from tests.builder.conftest import MODEL
from tests.builds import small_recipe
from dataclasses import replace

def die(done, total, note=""):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run, artifacts, cache = sys.argv[1:]
recipe = replace(small_recipe(), model=MODEL)
run_step(Build(recipe, RunFolder(Path(run)), Path(artifacts), cache, die), "train")
"""


def due(build: Build) -> list[str]:
    return [name for name in NAMES if is_due(build, name)]


def with_recipe(build: Build, **sections: Any) -> Build:
    return replace(build, recipe=replace(build.recipe, **sections))


def changed(recipe: Recipe, section: str) -> Recipe:
    """The recipe with one key of a section changed."""
    changes: dict[str, dict[str, Any]] = {
        "data": {"min_item_count": 5},
        "split": {"test_from_day": 91.0},
        "history": {"min_events": 11},
        "negatives": {"same_category": 0.25},
        "train": {"learning_rate": 0.02},
        "calibration": {"method": "isotonic"},
        "cache": {"dtype": "int8"},
    }
    if section in changes:
        part = replace(getattr(recipe, section), **changes[section])
    elif section == "model":
        part = ModelChoice("lrea", {**recipe.model.config, "rank": 16})
    else:
        part = "another"
    return replace(recipe, **{section: part})


def test_nothing_is_due_after_a_build(finished: Build) -> None:
    assert due(finished) == []


def test_everything_is_due_in_a_new_folder(finished: Build, tmp_path: Path) -> None:
    assert due(replace(finished, folder=type(finished.folder)(tmp_path))) == NAMES


@pytest.mark.parametrize(
    ("section", "first"),
    [
        ("data", "ingest"),
        ("split", "ingest"),
        ("history", "ingest"),
        ("model", "train"),
        ("negatives", "audit"),
        ("train", "train"),
        ("calibration", "evaluate"),
        ("cache", "precompute"),
        ("serve_as", "publish"),
    ],
)
def test_a_changed_section_makes_its_step_and_all_after_it_due(finished, section, first) -> None:
    build = replace(finished, recipe=changed(finished.recipe, section))

    assert due(build) == NAMES[NAMES.index(first) :]


@pytest.mark.parametrize("section", ["name", "path", "variant"])
def test_what_no_step_depends_on_makes_none_due(finished, section) -> None:
    values: dict[str, Any] = {"name": "other", "path": Path("elsewhere.toml"), "variant": ()}

    assert due(with_recipe(finished, **{section: values[section]})) == []


def test_a_replaced_input_file_makes_everything_due(tmp_path: Path) -> None:
    recipe = write_log(tmp_path, log_frame())
    before = fingerprints(recipe)
    assert fingerprints(recipe) == before

    write_log(tmp_path, log_frame(44))

    after = fingerprints(recipe)
    assert [name for name in NAMES if after[name] != before[name]] == NAMES


def test_a_missing_artifact_is_exported_again_to_the_same_bytes(build: Build) -> None:
    """Its id is the hash of its content: records that it made before stay readable."""
    before = build.artifact()
    shutil.rmtree(build.artifacts)
    assert due(build) == ["export"]

    run_step(build, "export")

    assert build.artifact() == before


def test_a_tampered_artifact_is_exported_again(build: Build, caplog) -> None:
    (build.artifact().path / "weights.safetensors").write_bytes(b"no weights")

    assert due(build) == ["export"]
    assert "weights.safetensors has hash" in caplog.text


def test_an_empty_cache_is_published_to_again(build: Build, server: Path) -> None:
    elsewhere = replace(build, cache_url=f"embedded:{server}")
    assert due(elsewhere) == ["publish"]

    run_step(elsewhere, "publish")

    assert due(elsewhere) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_start_without_the_ones_before(build: Build, name: str) -> None:
    build.folder.forget(NAMES)
    if name == "ingest":
        assert run_step(build, name).result["users"] == 60
        return

    expected = f"{name}: step 'ingest' is missing; run it first, or `absorb build`"
    with pytest.raises(StepError, match=expected):
        run_step(build, name)


def test_a_step_does_not_build_on_one_that_is_out_of_date(build: Build) -> None:
    other = replace(build, recipe=changed(build.recipe, "negatives"))

    with pytest.raises(StepError, match="evaluate: step 'audit' is out of date"):
        run_step(other, "evaluate")

    assert due(build) == []  # a refused step forgets nothing


def test_doing_a_step_again_makes_those_after_it_due(build: Build) -> None:
    run_step(build, "precompute")

    assert due(build) == ["gate", "publish"]


def test_another_exception_of_the_audit_trains_nothing_again(build: Build) -> None:
    allowed = Allowed("item in history", "Only to see what this changes.")
    other = with_recipe(build, audit=AuditRule((allowed,)))
    assert due(other) == ["audit", "export", "precompute", "gate", "publish"]

    run_step(other, "audit")

    assert due(other) == [
        "export",
        "precompute",
        "gate",
        "publish",
    ]  # the manifest holds the reasons


def test_a_leak_stops_the_build_before_training(build: Build) -> None:
    """In the log as it is saved, every label becomes what the first context field says."""
    events = build.events()
    told = FIRST_KNOWN + np.asarray(events.label, np.int32)[:, None]
    np.save(build.folder.events / "context.npy", told)

    with pytest.raises(LeakError, match=r"context hour: .* of .* targets are positive") as caught:
        run_step(build, "audit")

    assert caught.value.rules == ["context hour"]
    assert "remove it from data.context_fields" in str(caught.value)
    assert "**Fails.**" in (build.folder.path / "audit.md").read_text()
    with pytest.raises(StepError, match="train: step 'audit' is missing"):
        run_step(build, "train")


def test_a_failed_step_leaves_the_steps_before_it(build: Build, tmp_path: Path) -> None:
    nowhere = replace(build, cache_url="redis://127.0.0.1:1")
    with pytest.raises(CacheUnavailableError, match=r"redis://127\.0\.0\.1:1"):
        run_step(nowhere, "publish")

    assert list(build.folder.stamps()) == NAMES[:-1]
    run_step(with_recipe(build, serve_as="again"), "publish")
    assert due(with_recipe(build, serve_as="again")) == []


def test_a_builder_killed_in_training_leaves_finished_steps_and_no_checkpoint(build) -> None:
    build.folder.forget(NAMES[2:])
    shutil.rmtree(build.folder.checkpoint)
    places = (str(build.folder.path), str(build.artifacts), build.cache_url)

    killed = subprocess.run([sys.executable, "-c", DIE_TRAINING, *places], cwd=ROOT, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert list(build.folder.stamps()) == ["ingest", "audit"]
    assert not build.folder.checkpoint.exists()
    assert is_due(build, "train")
    assert not is_due(build, "ingest")


def test_every_step_reports_what_it_did(finished: Build) -> None:
    stamps = finished.folder.stamps()

    counts = {"events": 7200, "users": 60, "items": 160}
    assert stamps["ingest"].result.items() >= counts.items()
    assert "1970" < stamps["ingest"].result["first"] < stamps["ingest"].result["last"] < "2100"
    assert stamps["audit"].result["allowed"] == []
    assert set(stamps["audit"].result["checks"].values()) == {"passes"}
    assert finished.artifact().manifest.report["audit"] == stamps["audit"].result
    assert stamps["train"].result["best_step"] == TRAINING_STEPS
    # So few steps learn nothing to speak of: the report is that of the log and of this model.
    report = stamps["evaluate"].result
    assert 0 < report["test"]["auc"] < report["oracle_auc"] < 1
    assert report["test"]["targets"] > 500
    kept = finished.artifact().calibration()
    assert report["calibration"]["kept"] == (kept and calibration_to_dict(kept))
    assert (report["uncalibrated"] is None) == (kept is None)
    assert (finished.folder.path / "report.md").read_text().startswith("# Report: ")
    assert stamps["export"].result["onnx_difference"] <= 1e-4
    assert stamps["precompute"].result["users"] == 60
    sizes = [len(raw) for _, raw in read_records(finished.folder.records)]
    assert stamps["precompute"].result["bytes_per_user"] == round(sum(sizes) / 60)
    assert stamps["precompute"].result["largest_bytes"] == max(sizes)
    assert stamps["publish"].result["num_users"] == 60
    assert all(stamp.seconds >= 0 for stamp in stamps.values())


def test_what_is_published_is_every_user_as_of_the_end_of_the_log(finished: Build) -> None:
    client, artifact = connect_cache(finished.cache_url), finished.artifact()
    pointer, _ = read_pointer(client, finished.recipe.serve_as)
    events = Events.load(finished.folder.events)

    assert pointer is not None
    assert pointer.current.artifact_id == artifact.artifact_id
    for user, user_id in enumerate(events.user_ids):
        raw = client.get(pointer.current.key(user_id))
        assert isinstance(raw, bytes)
        record = decode_record(raw, artifact.manifest.state_spec, artifact.artifact_id, user_id)
        own = slice(events.offsets[user], events.offsets[user + 1])
        clicked = events.item[own][np.asarray(events.label[own]) == 1]
        assert record.recent.tolist() == clicked[-4:].tolist()
        assert record.as_of_s == events.as_of_s


def test_steps_tell_how_far_they_are(build: Build) -> None:
    calls: list[tuple[int, int]] = []
    watched = replace(build, progress=lambda done, total, note="": calls.append((done, total)))

    run_step(watched, "precompute")

    assert calls == [(done, 60) for done in range(61)]


def test_a_build_is_published_in_place_and_an_older_artifact_again(
    build: Build, server: Path
) -> None:
    """`republish` encodes generations from the ingested log that `rollback` cannot restore."""
    rolling = replace(build.recipe, publish=PublishRule(mode="rolling", wait_s=0.0))
    build = replace(build, recipe=rolling, cache_url=f"embedded:{server}")
    artifact_id = build.artifact().artifact_id
    second = [run_step(build, "publish").result["name"] for _ in range(2)][-1]
    client = connect_cache(build.cache_url)
    before, _ = read_pointer(client, rolling.serve_as)
    assert before
    with pytest.raises(PublishError, match=f"republish RECIPE {artifact_id}"):
        rollback(client, rolling.serve_as)

    third = republish(build, artifact_id)["name"]

    pointer, _ = read_pointer(client, rolling.serve_as)
    assert pointer
    assert (pointer.current.name, pointer.current.slot) == (third, before.current.slot)
    assert pointer.previous
    assert pointer.previous.name == second
    assert count_records(client, pointer.current) == 60
    assert is_due(build, "publish")  # the next run publishes the newest


def test_a_log_with_pools_is_built(tmp_path: Path) -> None:
    recipe = write_pools(
        tmp_path,
        model={"name": "lrea", "slots": "hash", "rank": 8, "mlp": [8], "hidden": 4, "heads": 1},
        history={"length": 16, "recent": 4},
        train={"steps": 12, "validate_every": 6, "slates_per_step": 16},
    )
    build = Build(recipe, RunFolder(tmp_path / "run"), tmp_path / "artifacts", "embedded:unused")
    build.folder.path.mkdir()

    for name in NAMES[:-1]:
        run_step(build, name)

    schema = build.artifact().manifest.schema
    assert [field.name for field in schema.candidate_fields] == ["placement"]
    assert all(not is_due(build, name) for name in NAMES[:-1])


def test_the_publish_section_does_not_change_a_build(build: Build) -> None:
    rolling = replace(build.recipe, publish=PublishRule(mode="rolling"))
    assert rolling.to_dict() == build.recipe.to_dict()
    assert fingerprints(rolling) == fingerprints(build.recipe)


def test_a_forgotten_user_makes_the_ingest_due_and_is_in_no_later_build(
    build: Build, server: Path, client: CacheClient
) -> None:
    build = replace(build, cache_url=f"embedded:{server}")
    user = build.events().user_ids[3]
    bury(client, "somebody else", 1)
    assert "ingest" not in due(build)

    bury(client, user, 2)

    assert due(build)[0] == "ingest"
    assert "ingest" not in due(replace(build, reads_tombstones=False))
    with build.folder.locked():
        run_step(build, "ingest")
    assert user not in build.events().user_ids
    assert build.events().num_users == 59
    assert "ingest" not in due(build)


def test_a_republish_leaves_forgotten_users_out(
    build: Build, server: Path, client: CacheClient
) -> None:
    build = replace(build, cache_url=f"embedded:{server}")
    user = build.events().user_ids[3]
    bury(client, user, 1)

    republish(build, build.artifact().artifact_id)

    pointer, _ = read_pointer(client, build.recipe.serve_as)
    assert pointer
    assert not client.exists(pointer.current.key(user))
    assert count_records(client, pointer.current) == pointer.current.num_users == 59


def test_a_build_does_not_ingest_while_nobody_knows_who_is_forgotten(build: Build) -> None:
    nowhere = replace(build, cache_url="redis://127.0.0.1:1")
    with pytest.raises(StepError, match="--without-tombstones"):
        run_step(nowhere, "ingest")
    assert run_step(replace(nowhere, reads_tombstones=False), "ingest").result["users"] == 60
