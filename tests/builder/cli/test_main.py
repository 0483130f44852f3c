"""The command line: what it is asked for, it does; what it cannot do, it says in a sentence and an exit code."""

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder.cli.main import app, main
from builder.pipeline import STEPS
from builder.publish.cache import CacheClient
from builder.publish.generations import read_pointer
from builder.run_folder import RunFolder
from models.contract.embedded_cache import stop_server
from tests.builder.published import publish_new
from tests.builds import RECIPE

COMMANDS = (
    "run", *STEPS, "republish", "rollback", "status", "plan", "compare", "scaling", "llactr", "bench",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """`python -m builder` with these arguments, in this process."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    yield run
    for package in ("builder", "models"):
        logging.getLogger(package).setLevel(logging.NOTSET)


@pytest.fixture
def places(tmp_path: Path) -> list[object]:
    """Options that keep a build out of the working folder."""
    return ["--runs", tmp_path / "runs", "--artifacts", tmp_path / "artifacts"]


def bad_recipe(folder: Path) -> Path:
    text = RECIPE.read_text().replace("[history]\n", "[history]\nlenght = 5\n")
    text = text.replace('serve_as = "tiny"\n', "").replace("steps = 60", "steps = 0")
    path = folder / "bad.toml"
    path.write_text(text.replace("rank = 16", "rnak = 16"))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert f"Usage: root {command}" in re.sub(r"\s+", " ", shown.output)


def test_help_shows_all_that_was_written() -> None:
    """What stands in square brackets is markup, unless it is escaped."""
    for command in app.registered_commands:
        name = command.name or str(getattr(command.callback, "__name__", ""))
        shown = CliRunner().invoke(app, [name, "--help"]).output
        written = command.help or getattr(command.callback, "__doc__", "")
        missing = set(re.findall(r"\w+", str(written))) - set(re.findall(r"\w+", shown))
        assert not missing, name


def test_help_says_where_the_embedded_cache_may_be() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"]).output

    assert "embedded:[folder]" in shown


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"])

    assert [name for name in COMMANDS if name not in shown.output] == []


def test_an_unknown_command_is_a_usage_error(call: Call) -> None:
    said = call("rnu")

    assert said.code == 2
    assert "No such command 'rnu'" in said.err


def test_all_problems_of_a_recipe_are_listed_at_once(call: Call, places, tmp_path: Path) -> None:
    said = call("run", bad_recipe(tmp_path), *places)

    assert said.code == 1
    assert "bad.toml: 4 problem(s) in this recipe:" in said.err
    for problem in ("serve_as: missing", "history.lenght", "model.rnak", "train.steps: got 0"):
        assert problem in said.err
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_is_not_there_is_named_beside_those_that_are(call: Call) -> None:
    said = call("ingest", "nowhere.toml")

    assert said.code == 1
    assert said.err.startswith("error: nowhere.toml: 1 problem(s)")
    assert "tiny.toml" in said.err


@pytest.mark.parametrize("step", list(STEPS)[1:])
def test_a_step_too_early_says_which_one_is_missing(call: Call, places, step: str) -> None:
    options = places if step in ("export", "precompute", "publish") else places[:2]

    said = call(step, RECIPE, *options)

    assert said.code == 1
    expected = "step 'ingest' is missing; run it first, or `run` to do all that is due"
    assert said.err == f"error: {step}: {expected}\n"


def test_a_step_that_does_not_exist_cannot_be_redone(call: Call, places) -> None:
    said = call("run", RECIPE, "--from", "trian", *places)

    assert said.code == 2
    assert "got 'trian', expected one of: ingest, train, evaluate" in re.sub(r"[\s│]+", " ", said.err)  # fmt: skip


def test_a_second_builder_is_told_who_builds(call: Call, places, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "tiny").locked():
        said = call("ingest", RECIPE, *places)

    assert said.code == 1
    assert "is being built by another builder" in said.err
    assert "this one stops" in said.err


def test_what_is_no_cache_is_refused_without_showing_a_password(call: Call) -> None:
    said = call("status", "--cache", "http://me:secret@cache:1/0")

    assert said.code == 1
    assert "http://cache:1/0: not a cache URL; expected embedded:[folder], redis://" in said.err
    assert "secret" not in said.err + said.out


@pytest.mark.parametrize("command", ["compare", "scaling"])
def test_without_variants_it_says_what_is_missing(call: Call, tmp_path: Path, command: str) -> None:
    said = call(command, RECIPE, "--folder", tmp_path, "--runs", tmp_path)

    assert said.code == 1
    assert "variant: missing, `compare` needs [[variant]] tables" in said.err


@pytest.mark.parametrize(
    "options", [("--axis", "rank", "--suan"), ("--axis", "rank", "--training"), ("--suan", "--training")]
)  # fmt: skip
def test_bench_does_one_thing_at_a_time(call: Call, options: tuple[str, ...]) -> None:
    said = call("bench", *options)

    assert said.code == 2
    assert "expected one of them" in said.err


def test_compare_only_names_the_variants_there_are(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    variants = [
        f'[[variant]]\nlabel = "{label}"\nfamily = "full"\nmodel = {{ name = "din" }}\n'
        for label in ("DIN", "other")
    ]
    recipe.write_text(RECIPE.read_text() + "".join(variants))

    said = call("compare", recipe, "--only", "DNI", "--runs", tmp_path / "runs")

    assert said.code == 2
    words = re.sub(r"[\s│]+", " ", said.err)
    assert "value for --only: got 'DNI', expected one of: DIN, other; did you mean 'DIN'?" in words
    assert not (tmp_path / "runs").exists()


def test_status_shows_what_serves(call: Call, server: Path, client: CacheClient) -> None:
    pointer = publish_new(client)

    said = call("status", "--cache", f"embedded:{server}")

    assert said.code == 0
    shown = re.sub(r"[\s│┃]+", "", said.out)  # names are folded where the terminal is narrow
    assert "lrea" in shown
    assert "20of20" in shown
    assert pointer.current.name[:8] in shown


def test_rollback_makes_the_previous_generation_serve(call: Call, server, client) -> None:
    first = publish_new(client).current
    publish_new(client)

    said = call("rollback", "lrea", "--cache", f"embedded:{server}")

    assert said.code == 0
    assert f"{first.name} serves again" in re.sub(r"\s+", " ", said.out)
    pointer, _ = read_pointer(client, "lrea")
    assert pointer is not None
    assert pointer.current == first


def test_rollback_of_what_was_never_published_is_refused(call: Call, server, client) -> None:
    said = call("rollback", "lrae", "--cache", f"embedded:{server}")

    assert said.code == 1
    assert said.err == "error: model 'lrae': was never published\n"


@pytest.fixture
def own_server() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    yield folder
    stop_server(folder)
    shutil.rmtree(folder)


def test_run_does_everything_once(call: Call, places, own_server: Path) -> None:
    arguments = ["run", RECIPE, *places, "--cache", f"embedded:{own_server}"]

    first = call(*arguments)
    again = call(*arguments)

    assert (first.code, again.code) == (0, 0)
    assert [name for name in STEPS if f"✓ {name}" not in first.out] == []
    for fact in ("24,000 events, 200 users", "oracle (Bayes-optimal)", "floor (counts)", "fp32"):
        assert fact in first.out
    assert [name for name in STEPS if f"· {name}: nothing changed, kept" not in again.out] == []
    assert "✓" not in again.out
    assert again.out.split("tiny:")[1] == first.out.split("tiny:")[1]  # the same summary
