"""The trainings of a comparison in several processes, which take them from one list, most important first.

Every finished training is a file, so an interrupted comparison goes on with what is missing. A training that a process
took is claimed by a file, too; claims are removed when a comparison starts.
"""

import fcntl
import logging
import math
import multiprocessing
import os
import tarfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from builder.errors import StepError
from builder.evaluate.slate_evaluation import TEST_SLATES
from builder.experiments.compare.pace import Pace, in_words
from builder.experiments.compare.plan import Outcomes, Plan, Training
from builder.experiments.compare.training import run_training
from builder.prepared import Prepared
from builder.progress import Progress, silent

logger = logging.getLogger(__name__)

POLL_S = 0.2
PACK_EVERY_S = 20.0
GRACE_S = 30.0
"""After the deadline, for trainings to come to their next validation and keep their state."""


@dataclass(frozen=True)
class Jobs:
    """What to train, where and for how long.

    Attributes:
        prepared: log and recipe.
        out: folder of outcomes.
        seeds: trainings of each variant.
        workers: number of processes.
        only: labels of variants to train; empty: all.
        deadline_s: in `time.monotonic()`.
        pack: tar file of all outcomes, rewritten every 20 s; None writes none.
        is_lean: metrics only, without breakdowns and without the quality of records.
        test_slates: slates whose whole pools are measured, in a log with pools.
        revision: of the code, for the record.
    """

    prepared: Prepared
    out: Path
    seeds: int
    workers: int
    only: Sequence[str] = ()
    deadline_s: float = math.inf
    pack: Path | None = None
    is_lean: bool = False
    test_slates: int = TEST_SLATES
    revision: str = ""

    def plan(self) -> Plan:
        """All trainings, with the outcomes so far."""
        outcomes = Outcomes(self.out, self.prepared.log)
        return Plan(self.prepared.recipe, self.seeds, outcomes, self.is_lean)


def run_jobs(jobs: Jobs, progress: Progress = silent) -> None:
    """Train what is not finished, until everything is or the time is up.

    Args:
        jobs: see there.
        progress: called after every training.

    Raises:
        StepError: a training failed or its process died, after all others were tried; or another comparison uses the
            folder.
    """
    jobs.out.mkdir(parents=True, exist_ok=True)
    with _alone(jobs.out):
        for old in (*jobs.out.glob("*.claim"), *jobs.out.glob("*.failed")):
            old.unlink()
        _watch(jobs, progress)
    failed = sorted(jobs.out.glob("*.failed"))
    dead = sorted(jobs.out.glob("*.claim"))
    if failed:
        raise StepError(f"compare: {failed[0].stem!r} failed: {failed[0].read_text()}")
    if dead and time.monotonic() < jobs.deadline_s:
        raise StepError(
            f"compare: the process of {dead[0].stem!r} died (too little memory?); finished trainings are kept: "
            "run the command again, if need be with fewer processes"
        )


def _watch(jobs: Jobs, progress: Progress) -> None:
    """Start the processes, and report and pack what they finish."""
    plan = jobs.plan()
    variants = plan.wanted(jobs.only)
    pace, state = Pace(plan, variants), plan.state(variants)
    progress(state.done, state.total)
    done, packed_s = state.done, time.monotonic()
    # Spawned, not forked: torch's threads and CUDA do not survive a fork.
    context = multiprocessing.get_context("spawn")
    number = min(jobs.workers, len(state.due) + len(state.waiting))
    workers = [context.Process(target=work, args=(jobs,), daemon=True) for _ in range(number)]
    for worker in workers:
        worker.start()
    try:
        is_over = not workers
        while not is_over:
            time.sleep(POLL_S)
            # Looked at before the outcomes: what a process finished last is reported, too.
            is_over = not any(worker.is_alive() for worker in workers)
            is_over |= time.monotonic() > jobs.deadline_s + GRACE_S
            for training in pace.new(plan, variants):
                done += 1
                left = pace.estimate(plan, variants, jobs.workers)
                progress(done, state.total, f"{in_words(training, plan.outcomes)}; {left}")
            if time.monotonic() > packed_s + PACK_EVERY_S:
                _pack(jobs)
                packed_s = time.monotonic()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
        _pack(jobs)


def work(jobs: Jobs) -> None:
    """One process: take the first free training, again and again, until none is left or the time is up."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    plan = jobs.plan()
    variants = plan.wanted(jobs.only)
    while time.monotonic() < jobs.deadline_s:
        due = plan.in_order(variants)
        training = next((one for one in due if _claim(plan.outcomes.place(one))), None)
        if training is not None:
            _run(jobs, training, plan.outcomes.place(training))
        elif plan.state(variants).waiting:
            time.sleep(POLL_S)  # for the trials of another process
            if not _is_running(plan, due):
                return
        else:
            return


def _die_with_parent() -> None:
    """End this process when the one that started it was killed: another comparison may take the folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(jobs: Jobs, training: Training, place: Path) -> None:
    try:
        outcome = run_training(
            training, jobs.prepared, place, jobs.revision, jobs.deadline_s, jobs.test_slates
        )
    except Exception:
        logger.exception("%s, seed %d", training.label, training.seed)
        place.with_suffix(".failed").write_text(traceback.format_exc())
        return
    if outcome is not None:
        place.with_suffix(".claim").unlink(missing_ok=True)


def _is_running(plan: Plan, due: Sequence[Training]) -> bool:
    """Whether a training that others wait for is neither finished nor failed."""
    return not due or any(
        not plan.outcomes.place(training).with_suffix(".failed").exists() for training in due
    )


def _claim(place: Path) -> bool:
    """Take a training, unless another process has, or it is finished or has failed."""
    if place.exists() or place.with_suffix(".failed").exists():
        return False
    try:
        with place.with_suffix(".claim").open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    if place.exists():  # finished between the two looks
        place.with_suffix(".claim").unlink()
        return False
    return True


def _pack(jobs: Jobs) -> None:
    """All outcomes so far in one file, replaced as a whole."""
    if jobs.pack is None:
        return
    jobs.pack.parent.mkdir(parents=True, exist_ok=True)
    staged = jobs.pack.with_name(f"{jobs.pack.name}.new")
    with tarfile.open(staged, "w") as tar:
        for path in sorted([*jobs.out.glob("*.json"), *jobs.out.glob("*.npz")]):
            if ".new." not in path.name:
                tar.add(path, path.name)
        for path in sorted(jobs.out.glob("*.failed")):
            tar.add(path, path.name)
    staged.replace(jobs.pack)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other comparisons out of the folder; the operating system releases the lock of a killed one."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StepError(f"{folder}: another comparison is writing to this folder") from error
        yield
