"""All trainings of the comparison: workers take them from one list, most important first, and write a file for each.

An interrupted run leaves complete rows; the same command then continues with the others.
"""

import json
import multiprocessing
import os
import tarfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.experiments.promotions.evaluation import TEST_VISITS, evaluate, visits_of
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import ROWS
from builder.experiments.promotions.task import Task
from builder.experiments.promotions.training import Budget, Setting, Trainer

FIRST_SEEDS = 3
PACK_EVERY_S = 20


@dataclass(frozen=True)
class Plan:
    """Trainings to run, and for how long.

    Attributes:
        prepared: folder of the prepared task.
        out: folder of results: LABEL/SEED.json and .npz, LABEL/search.json.
        device: "cuda" or "cpu".
        minutes: time after which trainings stop.
        workers: number of processes.
        only: labels to train; empty: all.
        seeds: number of seeds of each row; 0: the row's own.
        pack: tar file of `out`, rewritten every 20 s; None writes none.
        budget: of each training.
        test_visits: number of visits behind the metrics.
        length: largest L; 0: the row's own.
    """

    prepared: Path
    out: Path
    device: str
    minutes: float
    workers: int
    only: tuple[str, ...]
    seeds: int
    pack: Path | None
    budget: Budget
    test_visits: int = TEST_VISITS
    length: int = 0

    def jobs(self) -> list[tuple[str, tuple[int, ...]]]:
        """Rows with their first seeds, then the further seeds of rows that have more.

        Raises:
            ValueError: a label of `only` is unknown.
        """
        for label in self.only:
            if label not in ROWS:
                raise ValueError(f"only: got {label!r}, expected one of {', '.join(ROWS)}")
        labels = self.only or tuple(ROWS)
        wanted = {label: self.seeds or ROWS[label].seeds for label in labels}
        jobs = []
        for turn in range(3):
            for label in labels:
                low, high = _turns(wanted[label] if self.seeds else ROWS[label].seeds)[turn]
                seeds = tuple(range(low, min(high, wanted[label])))
                if seeds:
                    jobs.append((label, seeds))
        return jobs


def _turns(seeds: int) -> tuple[tuple[int, int], ...]:
    """First and last seed (exclusive) of each of three turns; rows with many seeds start with three."""
    if seeds > FIRST_SEEDS:
        return (0, FIRST_SEEDS), (0, 0), (FIRST_SEEDS, seeds)
    return (0, FIRST_SEEDS - 1), (FIRST_SEEDS - 1, FIRST_SEEDS), (0, 0)


def run(plan: Plan, say: Callable[[str], None]) -> int:
    """Start the workers, pack results, wait; return the number of finished trainings.

    Raises:
        ValueError: see `Plan.jobs`.
    """
    jobs = plan.jobs()
    plan.out.mkdir(parents=True, exist_ok=True)
    for claim in plan.out.glob("*/*.claim"):
        claim.unlink()
    deadline = time.monotonic() + 60 * plan.minutes
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=(plan, jobs, deadline), name=f"worker-{n}")
        for n in range(plan.workers)
    ]
    for worker in workers:
        worker.start()
    packed = time.monotonic()
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.2)
        now = time.monotonic()
        if now - packed > PACK_EVERY_S:
            pack(plan)
            packed = now
        if now > deadline + 20:
            for worker in workers:
                worker.terminate()
    for worker in workers:
        worker.join()
    pack(plan)
    done = len([*plan.out.glob("*/[0-9]*.json")])
    say(f"{done} trainings in {plan.out}")
    return done


def pack(plan: Plan) -> None:
    """All results so far in one file, replaced as a whole."""
    if plan.pack is None:
        return
    plan.pack.parent.mkdir(parents=True, exist_ok=True)
    part = plan.pack.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for path in sorted(plan.out.glob("*/*.json")) + sorted(plan.out.glob("*/*.npz")):
            tar.add(path, path.relative_to(plan.out))
    part.rename(plan.pack)


def _work(plan: Plan, jobs: Sequence[tuple[str, tuple[int, ...]]], deadline: float) -> None:
    """One process: take the first job that no other process has claimed, until all are done or the time is up."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    prepared = Prepared.load(plan.prepared)
    visits = visits_of(prepared, "test", plan.test_visits)
    tasks: dict[int, Task] = {}
    for label, seeds in jobs:
        if time.monotonic() > deadline:
            return
        todo = [seed for seed in seeds if not _path(plan, label, seed).exists()]
        if not todo or not _claim(plan, label, seeds):
            continue
        length = min(ROWS[label].length, plan.length or ROWS[label].length)
        if length not in tasks:
            tasks[length] = Task(prepared, torch.device(plan.device), length)
        try:
            _train_row(plan, label, todo, prepared, tasks[length], visits, deadline)
        except Exception:
            _say(f"{label}: failed\n{traceback.format_exc()}")


def _train_row(
    plan: Plan,
    label: str,
    seeds: Sequence[int],
    prepared: Prepared,
    task: Task,
    visits: NDArray[np.int64],
    deadline: float,
) -> None:
    begun = time.monotonic()
    trainer = Trainer(label, prepared, task, plan.budget, _say)
    built = time.monotonic() - begun
    setting = _search(plan, label, trainer)
    for seed in seeds:
        if time.monotonic() > deadline:
            return
        trained = trainer.train(seed, setting, deadline)
        if trained.ended == "time":
            _say(f"{label} {seed}: out of time after {trained.steps} steps, not kept")
            return
        begun = time.monotonic()
        metrics, per_visit = evaluate(trainer.mean, task, visits)
        seconds = {"build": built, "evaluate": time.monotonic() - begun}
        result = {
            "label": label,
            "title": ROWS[label].title,
            "seed": seed,
            "length": task.length,
            "state_bytes": _bytes(trainer, task.length),
            "raw_bytes": 8 * task.length,
            "weights": sum(weight.numel() for weight in trainer.mean.parameters()),
            "setting": asdict(setting),
            "test": metrics,
            "seconds": seconds,
            "has_graph": trainer.graph is not None,
            "why_no_graph": trainer.why_no_graph,
            "training": asdict(trained),
            "budget": asdict(plan.budget),
            "device": _device(plan),
            "torch": torch.__version__,
        }
        _save(plan, label, seed, result, {"visit": visits.astype(np.int32), **per_visit})
        _say(
            f"{label} {seed}: auc {metrics['auc']:.4f} gauc {metrics['gauc']:.4f} "
            f"loss {metrics['log_loss']:.6f} pcoc {metrics['pcoc']:.3f} | {trained.steps} steps, best "
            f"{trained.best_step} ({trained.best['gauc']:.4f}), {trained.step_ms:.2f} ms a step, "
            f"{built:.1f} + {trained.seconds:.1f} + {seconds['evaluate']:.1f} s"
        )


def _search(plan: Plan, label: str, trainer: Trainer) -> Setting:
    """The row's setting, searched once."""
    path = plan.out / label / "search.json"
    if not path.exists():
        setting, trials = trainer.search()
        _write(path, json.dumps({"setting": asdict(setting), "trials": trials}, indent=1))
    chosen: dict[str, float] = json.loads(path.read_text())["setting"]
    return Setting(**chosen)


def _bytes(trainer: Trainer, length: int) -> dict[str, int]:
    """Of the state, at histories of several lengths; blocks that keep the raw history keep it once."""
    lengths = sorted({64, 512, 2048, length})
    sizes = {}
    for n in lengths:
        each = [block.state_bytes(min(n, length)) for block in trainer.mean.blocks]  # type: ignore[operator]
        raw = 8 * min(n, length)
        sizes[str(n)] = sum(size for size in each if size != raw) + raw * (raw in each)
    return sizes


def _device(plan: Plan) -> str:
    return torch.cuda.get_device_name() if plan.device == "cuda" else "cpu"


def _path(plan: Plan, label: str, seed: int) -> Path:
    return plan.out / label / f"{seed}.json"


def _claim(plan: Plan, label: str, seeds: Sequence[int]) -> bool:
    path = plan.out / label / f"{seeds[0]}.claim"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _save(
    plan: Plan, label: str, seed: int, result: dict[str, Any], vectors: dict[str, NDArray[Any]]
) -> None:
    """Vectors first: where the JSON is, the training is whole."""
    path = _path(plan, label, seed)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **vectors)  # type: ignore[arg-type]
    part.rename(path.with_suffix(".npz"))
    _write(path, json.dumps(result, indent=1))


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)  # noqa: T201 - the run's own log
