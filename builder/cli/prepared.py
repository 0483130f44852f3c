"""Training from a prepared folder, where only torch, numpy, safetensors and jaxtyping are installed.

    python -m builder.cli.prepared train --prepared DIR --out CHECKPOINT
    python -m builder.cli.prepared compare --prepared DIR --out FOLDER --device cuda --minutes 10 --workers 8

The same as `absorb train --prepared` and `absorb compare --prepared`, without Typer.
"""

import argparse
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from builder.errors import StepError
from builder.evaluate.slate_evaluation import TEST_SLATES
from builder.experiments.compare.jobs import Jobs, run_jobs
from builder.prepared import Prepared
from builder.progress import Progress
from builder.provenance import code_revision
from builder.train.train import train
from models.contract.errors import AbsorbError, did_you_mean


def compare_prepared(jobs: Jobs, progress: Progress) -> str:
    """Train the variants of a prepared folder; return what is finished in a line.

    Raises:
        StepError: a label is unknown, or a training failed.
    """
    known = [variant.label for variant in jobs.prepared.recipe.variant]
    for label in jobs.only:
        if label not in known:
            expected = f"expected one of: {', '.join(known)}{did_you_mean(label, known)}"
            raise StepError(f"--only: got {label!r}, {expected}")
    run_jobs(jobs, progress)
    plan = jobs.plan()
    state = plan.state(plan.wanted(jobs.only))
    return f"{jobs.out}: {state.done} of {state.total} trainings are finished"


def train_prepared(
    prepared: Prepared, out: Path, progress: Progress, *, minutes: float = 0.0
) -> str:
    """Train a prepared folder's model and write its checkpoint; return what became of it in a line.

    Args:
        prepared: the folder.
        out: folder of the checkpoint; the state of an unfinished training is beside it.
        progress: called after every step.
        minutes: time after which training stops; 0: no limit. Run again, it goes on.
    """
    state = out.with_name(f"{out.name}.training")
    recipe, deadline_s = prepared.recipe, deadline_in(minutes)
    checkpoint = train(prepared.events(), recipe, progress, folder=state, deadline_s=deadline_s)
    checkpoint.save(out)
    steps, best = checkpoint.history[-1]["step"], checkpoint.best
    ended = f"ended at step {steps:,} ({checkpoint.ended})"
    return f"{out}: {ended}; best validation AUC {best['auc']:.4f} at step {best['step']:,}"


def deadline_in(minutes: float) -> float:
    """A time of `time.monotonic()`; 0 minutes: never."""
    return time.monotonic() + 60 * minutes if minutes else math.inf


def say(done: int, total: int, note: str = "") -> None:
    """A plain line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {done:,} of {total:,} {note}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 1 after an error, which is one line on stderr."""
    options = vars(_parser().parse_args(arguments))
    logging.basicConfig(level=logging.WARNING)
    command, minutes = options.pop("command"), options.pop("minutes")
    try:
        prepared = Prepared.load(options.pop("prepared")).on(options.pop("device"))
        if command == "train":
            line = train_prepared(prepared, options["out"], say, minutes=minutes)
        else:
            limit = deadline_in(minutes)
            jobs = Jobs(prepared, deadline_s=limit, revision=code_revision(), **options)
            line = compare_prepared(jobs, say)
    except AbsorbError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{line}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m builder.cli.prepared", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "compare"):
        command = commands.add_parser(name)
        command.add_argument("--prepared", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
        command.add_argument("--minutes", type=float, default=0.0, help="0: no limit")
    command.add_argument("--workers", type=int, default=1)
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--only", action="append", default=[], help="label of a variant")
    command.add_argument("--pack", type=Path, help="tar of all outcomes, rewritten every 20 s")
    command.add_argument("--lean", action="store_true", dest="is_lean", help="metrics only")
    command.add_argument("--test-slates", type=int, default=TEST_SLATES, help="fewer, to rehearse")
    return parser


if __name__ == "__main__":
    sys.exit(main())
