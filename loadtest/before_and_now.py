"""Times training steps of two checkouts of this repository in turn: the same log, history length and batch size.

    git worktree add ../before 27d18cf
    python -m loadtest.before_and_now ../before . loadtest/results/before-and-now.md

Each checkout runs in a process of its own, on one thread, with its own models, batches and optimiser. The processes
take turns, step by step, so that a slow moment of the machine hits both. 27d18cf is the last commit before training
was rewritten. The task is one that both can train: purchases of complete-journey with one drawn negative for each, at
L = 2,000.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

RECIPE = """
name = "before-and-now"
serve_as = "lrea"
[data]
source = "complete-journey"
item_fields = ["product_type", "product_category", "department", "brand"]
user_fields = ["age", "income"]
context_fields = ["hour", "weekday"]
category = "product_category"
min_item_count = 3
[split]
train_from_day = 150
validate_from_day = 320
test_from_day = 330
[history]
length = 2000
recent = 32
min_events = 50
[negatives]
per_positive = 1
same_category = 0.5
popularity_power = 0.75
[model]
name = "din"
[train]
slates_per_step = 64
learning_rate = 0.05
"""
SAME = {"item_dim": 32, "field_dim": 8, "hidden": 32, "heads": 4, "mlp": [128, 64]}
MODELS: dict[str, tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "DIN over L = 2,000, the same sizes": (("din", SAME), ("din", {**SAME, "score": "phi"})),
    "DIN over L = 2,000, each in its best form": (
        ("din", SAME),
        ("din", {"score": "kernel", "counts": "exact"}),
    ),
    "the default of each": (
        ("lrea", {"slots": "hash", "rank": 256, "hidden": 8, "heads": 2, "mlp": [128, 64]}),
        ("lrea", {"slots": "items", "rank": 1024}),
    ),
}
"""Row -> model and options before, and now."""
WARM_UP, STEPS = 3, 15


def main(before: Path, now: Path, out: Path) -> None:
    """Time both checkouts, and write the table."""
    with _trainer(before, 0) as first, _trainer(now, 1) as second:
        rows = [_row(label, first, second) for label in MODELS]
    commits = [_commit(folder) for folder in (before, now)]
    cpu = next(
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    lines = [
        "# Slates per second of training, before and now",
        "",
        "- Command: `python -m loadtest.before_and_now ../before .`",
        f"- Before: {commits[0]}; now: {commits[1]}",
        f"- Machine: {cpu}, {os.cpu_count()} cores, one thread; {datetime.now(UTC):%Y-%m-%d}, load average at the "
        f"end {os.getloadavg()[0]:.1f}",
        f"- Job: steps of 64 slates with up to 16 candidates, L = 2,000; medians (10th to 90th percentile) of {STEPS}. "
        "Neither has the running mean of weights or clipped gradients",
        "",
        "| model | before, ms a step | now, ms a step | before, slates/s | now, slates/s | times |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _row(label: str, first: "Trainer", second: "Trainer") -> str:
    for trainer in (first, second):
        trainer.ask(label)
    times = [[trainer.ask("step") for trainer in (first, second)] for _ in range(WARM_UP + STEPS)]
    before, now = (list(column) for column in zip(*times[WARM_UP:], strict=True))
    per_s = [64 / median(ms) * 1e3 for ms in (before, now)]
    spreads = [
        f"{median(ms):.0f} ({_tenth(ms, 0):.0f} to {_tenth(ms, 8):.0f})" for ms in (before, now)
    ]
    return (
        f"| {label} | {spreads[0]} | {spreads[1]} | {per_s[0]:.0f} | {per_s[1]:.0f} | "
        f"{per_s[1] / per_s[0]:.2f} |"
    )


def _tenth(values: list[float], place: int) -> float:
    return quantiles(values, n=10)[place]


class Trainer:
    """A process that trains the models of one checkout."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str) -> float:
        """Choose a model by its row, or take a step: milliseconds that it took."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("process: got one without pipes, expected pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))


@contextmanager
def _trainer(folder: Path, place: int) -> Iterator[Trainer]:
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--train", str(place)]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Trainer(process)
        if process.stdin is not None:
            process.stdin.close()


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def train(place: int) -> None:
    """Obey the lines of stdin: a model's name builds it, "step" trains one step and prints its time in ms.

    Runs in the checkout. Modules are looked up by name, since some moved.
    """
    import numpy as np
    import torch

    load_recipe = importlib.import_module("builder.recipe.recipe").load_recipe
    ingest = importlib.import_module("builder.ingest.run").ingest
    build_model = importlib.import_module("models.registry").build_model
    parts = importlib.import_module("builder.dataset.parts")
    trainer = importlib.import_module("builder.train.train")
    try:
        make_optimizer = importlib.import_module("builder.train.optimiser").make_optimizer
    except ModuleNotFoundError:
        make_optimizer = trainer.make_optimizer
    torch.set_num_threads(1)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(RECIPE)
        file.flush()
        recipe = load_recipe(Path(file.name))
    events = ingest(recipe)
    source, slates = (
        parts.batch_source(events, recipe, "train"),
        parts.part_slates(events, recipe, "train"),
    )
    fields = torch.from_numpy(np.array(events.item_fields))
    batches: Iterator[Any] = iter(())
    for line in sys.stdin:
        if line.strip() != "step":
            name, options = MODELS[line.strip()][place]
            model = build_model(name, events.schema, fields, options).train()
            optimizer = make_optimizer(model, recipe.train)
            rng = np.random.default_rng(0)
            batches = source.epoch(slates, recipe.train.slates_per_step, rng, shuffle=True)
            print(0.0, flush=True)
            continue
        began_s = time.perf_counter()
        batch, _ = next(batches)
        _, total = trainer.losses(model, batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        print(1e3 * (time.perf_counter() - began_s), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(int(sys.argv[2]))
    else:
        main(*(Path(word) for word in sys.argv[1:4]))
