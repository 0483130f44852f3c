"""A run's folder: stamps are kept, half-written outputs are never used, and one builder works in it at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import LockHeldError
from builder.run_folder import STEPS_FILE, RunFolder, Stamp

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from builder.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
"""
DIE_WRITING = """
import os, signal, sys
from pathlib import Path
from builder.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
with folder.replacing(folder.events) as place:
    place.mkdir()
    (place / "half.npy").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def start(code: str, folder: RunFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_stamps_are_read_as_written(folder) -> None:
    ingest, train = Stamp("abc", 1.5, {"events": 3}), Stamp("def", 0.5)

    folder.stamp("ingest", ingest)
    folder.stamp("train", train)

    assert RunFolder(folder.path).stamps() == {"ingest": ingest, "train": train}


def test_a_new_stamp_replaces_the_old_one(folder) -> None:
    folder.stamp("ingest", Stamp("old", 1.0))
    folder.stamp("ingest", Stamp("new", 2.0))

    assert folder.stamps() == {"ingest": Stamp("new", 2.0)}


def test_forgotten_steps_are_gone_and_others_stay(folder) -> None:
    for name in ("ingest", "train", "evaluate"):
        folder.stamp(name, Stamp(name, 1.0))

    folder.forget(["train", "evaluate", "publish"])

    assert list(folder.stamps()) == ["ingest"]


def test_a_new_folder_has_no_stamps(folder) -> None:
    assert folder.stamps() == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"ingest": 3}', '{"ingest": {"when": 3}}'])
def test_unreadable_stamps_are_ignored(folder, text) -> None:
    """Then the steps run again, which is always safe."""
    (folder.path / STEPS_FILE).write_text(text)

    assert folder.stamps() == {}


def test_what_is_written_takes_the_place_of_the_old(folder) -> None:
    folder.records.write_text("old")

    with folder.replacing(folder.records) as place:
        place.write_text("new")
        assert folder.records.read_text() == "old"

    assert folder.records.read_text() == "new"
    assert [path.name for path in folder.path.iterdir()] == ["records.bin"]


def test_a_folder_is_replaced_whole(folder) -> None:
    folder.events.mkdir()
    (folder.events / "old.npy").write_text("old")

    with folder.replacing(folder.events) as place:
        place.mkdir()
        (place / "new.npy").write_text("new")

    assert [path.name for path in folder.events.iterdir()] == ["new.npy"]


def test_a_failed_step_leaves_the_old(folder) -> None:
    folder.records.write_text("old")

    def write_half() -> None:
        with folder.replacing(folder.records) as place:
            place.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()

    assert folder.records.read_text() == "old"


def test_a_killed_step_leaves_the_old_and_does_not_disturb_the_next(folder) -> None:
    folder.events.mkdir()
    (folder.events / "old.npy").write_text("old")

    with start(DIE_WRITING, folder) as builder:
        assert builder.wait(30) == -signal.SIGKILL
    assert [path.name for path in folder.events.iterdir()] == ["old.npy"]

    with folder.replacing(folder.events) as place:
        place.mkdir()
        (place / "new.npy").write_text("new")
    assert [path.name for path in folder.events.iterdir()] == ["new.npy"]


def test_the_error_of_a_second_builder_names_the_first(folder) -> None:
    with start(HOLD, folder) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "held\n"

        with pytest.raises(LockHeldError, match=rf"pid {builder.pid} since 20.*this builder stops"):
            folder.locked().__enter__()

        builder.communicate("\n")
    with folder.locked():
        assert f"pid {os.getpid()} " in (folder.path / "holder.txt").read_text()


def test_a_killed_builder_holds_nothing(folder) -> None:
    with start(HOLD, folder) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "held\n"
        builder.kill()
        builder.wait(30)

    with folder.locked():
        assert f"pid {os.getpid()} " in (folder.path / "holder.txt").read_text()


def test_locking_makes_the_folder(tmp_path) -> None:
    with RunFolder(tmp_path / "runs" / "new").locked():
        assert (tmp_path / "runs" / "new").is_dir()
