"""The nightly commands: a line for each step, problems in one sentence, and a second run that does nothing."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.pipeline import STEPS
from builder.publish.cache import connect_cache
from builder.run_folder import RunFolder
from models.contract.announcement import SERVICES_KEY, Announcement, heartbeat_key
from tests.builder.cli.conftest import Call
from tests.builds import RECIPE

FIND_LOADED = """
import sys
from builder.cli.main import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
loaded = [name for name in sys.modules if name.startswith(("builder.experiments", "service"))]
print("loaded:", sorted(loaded))
"""


def bad_recipe(folder: Path) -> Path:
    text = RECIPE.read_text().replace("[history]\n", "[history]\nlenght = 5\n")
    text = text.replace('serve_as = "tiny"\n', "").replace("steps = 60", "steps = 0")
    path = folder / "bad.toml"
    path.write_text(text.replace("rank = 16", "rnak = 16"))
    return path


def test_all_problems_of_a_recipe_are_listed_at_once(call: Call, places, tmp_path: Path) -> None:
    finished = call("build", bad_recipe(tmp_path), *places)

    assert finished.code == 1
    assert "bad.toml: 4 problem(s) in this recipe:" in finished.err
    for problem in ("serve_as: missing", "history.lenght", "model.rnak", "train.steps: got 0"):
        assert problem in finished.err
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_is_not_there_is_named_beside_those_that_are(call: Call) -> None:
    finished = call("ingest", "nowhere.toml")

    assert finished.code == 1
    assert finished.err.startswith("error: nowhere.toml: 1 problem(s)")
    assert "tiny.toml" in finished.err


@pytest.mark.parametrize("step", list(STEPS)[2:])  # the audit ingests if that is due
def test_a_step_too_early_says_which_one_is_missing(call: Call, places, step: str) -> None:
    finished = call(step, RECIPE, *places)

    assert finished.code == 1
    expected = "step 'ingest' is missing; run it first, or `absorb build` for all that is due"
    assert finished.err == f"error: {step}: {expected}\n"


def test_a_step_that_does_not_exist_cannot_be_redone(call: Call, places) -> None:
    finished = call("build", RECIPE, "--from", "trian", *places)

    assert finished.code == 2
    words = re.sub(r"[\s│]+", " ", finished.err)
    assert "got 'trian', expected one of: ingest, audit, train" in words


def test_the_error_of_a_second_builder_names_the_first(call: Call, places, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "tiny").locked():
        finished = call("ingest", RECIPE, *places)

    assert finished.code == 1
    assert "is being built by another builder" in finished.err
    assert "this builder stops" in finished.err


@dataclass(frozen=True)
class Built:
    """A build in a process of its own: what it printed, and the options that name its places."""

    out: str
    err: str
    loaded: str
    log: str
    arguments: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, server: Path) -> Built:
    home = tmp_path_factory.mktemp("built")
    places = ["--runs", f"{home}/runs", "--artifacts", f"{home}/artifacts"]
    arguments = [str(RECIPE), *places, "--cache", f"embedded:{server}"]
    command = [sys.executable, "-c", FIND_LOADED, "run", *arguments]
    done = subprocess.run(
        command, cwd=RECIPE.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out, _, loaded = done.stdout.rpartition("loaded: ")
    log = (home / "runs" / "tiny" / "log.txt").read_text()
    return Built(out, done.stderr, loaded.strip(), log, arguments)


def test_the_nightly_job_loads_no_experiments_and_no_service(built: Built) -> None:
    assert built.loaded == "[]"


def test_a_build_prints_a_line_for_each_step(built: Built) -> None:
    assert [name for name in STEPS if f"✓ {name}" not in built.out] == []
    facts = (
        "24,000 events of 200 users on 160 items",
        "baseline: trees",
        "oracle (true",
        "ONNX and torch differ by at most",
        "200 users of model tiny",
        "(fp32)",
        "requests that name no model: tiny answers them",
        "no running service follows this cache",
    )
    assert [fact for fact in facts if fact not in built.out] == []


def test_a_person_can_read_what_a_build_prints(built: Built) -> None:
    """No dict, no traceback, less than a screen; the details are in the run folder."""
    assert not re.search(r"[{}]|Traceback", built.out + built.err)
    assert len(built.out.splitlines()) < 40
    assert '"validation_auc"' in built.log
    assert "step 30: loss" in built.log


def test_a_second_build_runs_no_step_and_prints_the_same_summary(call: Call, built: Built) -> None:
    again = call("build", *built.arguments)

    assert again.code == 0
    kept = [name for name in STEPS if re.search(f"· {name} +nothing changed, kept", again.out)]
    assert kept == list(STEPS)
    assert "✓" not in again.out
    summary = "On the test period"
    assert again.out.split(summary)[1].strip() == built.out.split(summary)[1].strip()
    assert "no running service follows this cache" in again.out


def test_a_build_fails_while_a_running_service_does_not_serve_it(
    call: Call, built: Built, tmp_path: Path
) -> None:
    recipe = tmp_path / "impatient.toml"
    recipe.write_text(RECIPE.read_text() + "\n[publish]\nwait_s = 0.1\n")
    with connect_cache(built.arguments[-1]) as client:
        client.sadd(SERVICES_KEY, "stuck-1")
        client.set(heartbeat_key("stuck-1"), Announcement({"tiny": "older"}).to_bytes(), ex=60)
        finished = call("build", recipe, *built.arguments[1:])
        client.delete(heartbeat_key("stuck-1"))

    assert finished.code == 1
    assert "✓" not in finished.out  # nothing was due: the publish of before is what is not served
    assert "after 0.1 s 1 running service(s) do not serve it" in finished.err
    assert "- stuck-1: serves older" in finished.err
