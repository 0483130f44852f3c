"""Builders that are killed in every step, one after another over one run folder, while requests go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.pipeline import STEPS
from tests.e2e.builders import TINY, Build, Builder, finish
from tests.e2e.deadline import wait_until
from tests.e2e.expected import Expected, read_expected
from tests.e2e.gate import Gate
from tests.e2e.services import ready_service
from tests.e2e.traffic import Answer, Traffic
from tests.e2e.world import Cache, FirstBuild

SIGNS = {
    "ingest": r"ingest .* [1-3]/4 ",
    "audit": r"audit .* [1-9][\d,]*/[\d,]+ ",
    "train": r"train .* 1\d/20 .* loss",
    "evaluate": r"evaluate .* [1-9]\d*/\d+ ",
    "export": r"export .* 0:00:0\d",
    "gate": r"gate .* [1-9]\d*/\d+ ",
}
"""What a builder shows when it is well inside a step."""
SPINNER = r"[\u2800-\u28ff] "
"""Stands before a step's name from the moment the step begins."""
RECORD = b"ABSR"
"""Every record begins with it, so it is on the way to the cache only while records are written."""
FLIP = b"$4\r\nEVAL\r\n"
"""The one script that is sent whole: it flips the pointer."""
FEW = 20
"""Answers after each fault that show what it did to the service."""
TRIES = 3
"""Of a kill that comes too late, after its step's end: steps take tenths of a second."""


@dataclass(frozen=True)
class Kill:
    """What a killed builder left behind.

    Attributes:
        stamps: finished steps.
        serving: name of the generation that the pointer names.
        generations: of all that have records in the cache.
        shown: on its terminal, and on those of builders before it that were killed too late.
    """

    stamps: list[str]
    serving: str
    generations: set[str]
    shown: str


@dataclass(frozen=True)
class KilledBuild:
    """A build that took a kill in each step and a last run.

    Attributes:
        kills: step, or "flip" for one between the flip and the stamp -> what was found.
        old: name of the generation that served before, and until the flip.
        new: the same of the last run's.
        shown: by the last run.
        answers: to the live requests, in order.
        num_old: answers that came before the first flip.
        left: generations with records in the cache in the end.
        expected: generation -> what it must answer.
    """

    kills: Mapping[str, Kill]
    old: str
    new: str
    shown: str
    answers: list[Answer]
    num_old: int
    left: set[str]
    expected: Mapping[str, Expected]


def write_next_recipe(folder: Path) -> Path:
    """Another night's recipe: another seed, and more users, which makes its short steps longer."""
    text = TINY.read_text()
    for old, new in {
        "users = 200": "users = 3000",
        "events_per_user = 120": "events_per_user = 60",
        "min_events = 10": "min_events = 5",
        "[train]\nsteps = 60": "[train]\nseed = 1\nsteps = 20",
        "validate_every = 30": "validate_every = 10",
        # It learns little in 20 steps; the gate compares it, and lets it pass.
        "[gate] ": "[gate]\ncalibration = 10.0\ngauc_drop = 1.0\ngauc_gain = 1.0\nlog_loss_gain = 1.0\n#",
        "log_loss = 0.05": "log_loss = 10.0",
        "\ngauc = 0.05": "\ngauc = 1.0",
        "rank_distance = 0.35": "rank_distance = 1.0",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "next.toml"
    path.write_text(text)
    return path


def build_through_kills(first: FirstBuild, cache: Cache, folder: Path) -> KilledBuild:
    """Serve the first build, and build the next one through a kill in each step."""
    copied = first.copy(folder, cache.url)
    build = Build(write_next_recipe(folder), copied.runs, copied.artifacts, cache.url)
    old = cache.publish(first.expected)
    expected = {old.name: first.expected}
    kills = {}
    with (
        ready_service(cache.url, build.artifacts, folder / "service.log") as url,
        Traffic(url, first.asks()) as traffic,
    ):
        for step in list(STEPS)[:-1]:
            kills[step] = _kill_in(step, build, cache)
            traffic.wait_for(FEW, lambda answer: True, f"answers after the kill in {step}")
        kills["publish"] = _kill_at(RECORD, build, cache)
        traffic.wait_for(FEW, lambda answer: True, "answers after the kill in publish")
        num_old = len(traffic.answers)
        kills["flip"] = _kill_at(FLIP, build, cache)
        _see_it_serve(cache, build, traffic, expected)
        shown = finish(build.run())
        _see_it_serve(cache, build, traffic, expected)
    return KilledBuild(
        kills, old.name, cache.serving().name, shown, traffic.answers, num_old,
        cache.generations(), expected,
    )  # fmt: skip


def _see_it_serve(
    cache: Cache, build: Build, traffic: Traffic, expected: dict[str, Expected]
) -> None:
    """Wait until the service scores with the generation of the pointer; note what it must answer."""
    now = cache.serving()
    expected[now.name] = read_expected(cache.client, now, build.artifacts)
    traffic.wait_for(FEW, lambda answer: answer.generation == now.name, f"answers of {now.name}")


def _kill_in(step: str, build: Build, cache: Cache) -> Kill:
    """Run, and kill as soon as there is a sign of the step.

    A step of tenths of a second may end without one. The next run is killed as soon as the step has begun.
    """
    shown = _run_into(step, build, is_late=False)
    for _ in range(TRIES):
        found = _what_is_left(shown, build, cache)
        if step not in found.stamps:
            return found
        shown += _run_into(step, build, is_late=True)
    raise AssertionError(f"{step} always ended before the kill: {found}")


def _run_into(step: str, build: Build, *, is_late: bool) -> str:
    """Run until the step shows that it is at work, or has ended, and kill; what was shown."""
    earlier = build.folder.stamps().get(step)

    def has_come() -> bool:
        has_ended = build.folder.stamps().get(step) not in (None, earlier)
        return has_ended or _is_inside(step, builder, build, is_late=is_late)

    with build.run(*(("--from", step) if is_late else ())) as builder:
        wait_until(lambda: has_come() or not builder.is_running(), f"{step} to begin")
        builder.kill()
    return builder.shown


def _is_inside(step: str, builder: Builder, build: Build, *, is_late: bool) -> bool:
    if is_late:
        return builder.has_shown(f"{SPINNER}{step} ") and step not in build.folder.stamps()
    if step == "precompute":
        return build.folder.records.with_name("records.bin.new").exists()
    return builder.has_shown(SIGNS[step])


def _kill_at(command: bytes, build: Build, cache: Cache) -> Kill:
    """Run, and kill when a command has reached the cache and its answer has not come back."""
    path = cache.folder / "gate.sock"
    with Gate(path, cache.socket, command) as gate, build.at(gate.url).run() as builder:
        gate.wait_until_shut()
        builder.kill()
        found = _what_is_left(builder.shown, build, cache)
    path.unlink()
    return found


def _what_is_left(shown: str, build: Build, cache: Cache) -> Kill:
    return Kill(list(build.folder.stamps()), cache.serving().name, cache.generations(), shown)
