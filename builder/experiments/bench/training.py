"""`absorb bench --training`: slates per second and the cost of an epoch of the default task, and where the time goes.

One thread, as `compare` trains. Models take turns, step by step, so that a slow moment of the machine hits all. Each is
trained twice on the same batches: as training does it, and plainly, with all users of a step together, padded to the
longest history, and an optimiser that takes one weight after another. The losses must be the same.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from builder.dataset.parts import batch_source, part_slates
from builder.experiments.bench.contenders import CONTENDERS, DEFAULT
from builder.experiments.report.markdown import markdown_table, write_report
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.progress import Progress
from builder.recipe.recipe import Recipe, load_recipe
from builder.train.clipping import Clipping
from builder.train.feed import Feed
from builder.train.optimiser import RunningMean, make_optimizer
from builder.train.train import losses
from models.base import CtrModel
from models.registry import build_model
from models.sequence import by_length

MODELS = (
    DEFAULT,
    "DIN, kernel",
    "DIN, kernel and exact counts",
    "TWIN",
    "exact counts only",
    "no long history",
)
"""Labels of `CONTENDERS`."""
PHASES = ("batch", "forward", "backward", "optimiser", "mean")
RECIPE = Path(__file__).parents[2] / "recipes" / "promotions.toml"
WARM_UP, STEPS, TOP = 2, 10, 6


@dataclass(frozen=True)
class Cost:
    """Of training one model.

    Attributes:
        model: label.
        phase_ms: median of each of `PHASES`, per step.
        step_ms: median, 10th and 90th percentile of a whole step.
        slates_per_s: slates of a step over its median.
        plain_slates_per_s: the same, trained plainly.
        loss_gap: largest difference of a loss from that of the plain training, relative.
        epoch_s: median step times the steps of an epoch.
        operators: share of the step of the operators that take most, by name.
    """

    model: str
    phase_ms: Mapping[str, float]
    step_ms: tuple[float, float, float]
    slates_per_s: float
    plain_slates_per_s: float
    loss_gap: float
    epoch_s: float
    operators: Mapping[str, float]


class _Trainee:
    """One model being trained on the log's batches.

    Args:
        label: of `MODELS`.
        events: the log.
        recipe: batches and optimiser.
        is_plain: with padded histories, and an optimiser that takes one weight after another.
    """

    def __init__(self, label: str, events: Events, recipe: Recipe, *, is_plain: bool) -> None:
        name, options = CONTENDERS[label]
        fields = torch.from_numpy(np.array(events.item_fields))
        self.label, self.is_plain = label, is_plain
        self.model: CtrModel = build_model(name, events.schema, fields, options).train()
        self.optimizer = make_optimizer(self.model, recipe.train)
        if is_plain:
            groups = self.model.parameter_groups(recipe.train.learning_rate)
            self.optimizer = torch.optim.Adagrad(groups, foreach=False)
        self.clipping = Clipping(self.model.parameters(), recipe.train.clip)
        self.mean = RunningMean(self.model, recipe.train.running_mean)
        source, slates = batch_source(events, recipe, "train"), part_slates(events, recipe, "train")
        self.size, self.num_slates = recipe.train.slates_per_step, len(slates)
        self.feed = Feed(source, slates, self.size, seed=0)
        self.losses: list[float] = []
        self.step_phases_ms: list[list[float]] = []

    def step(self) -> None:
        """One step, its phases timed."""
        with _padded(self.is_plain):
            self._step()

    def _step(self) -> None:
        ticks = [time.perf_counter()]

        def tick() -> None:
            ticks.append(time.perf_counter())

        batch = self.feed.batch(len(self.losses))
        tick()
        loss, total = losses(self.model, batch)
        tick()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        tick()
        self.clipping.apply(len(self.losses) + 1)
        self.optimizer.step()
        tick()
        self.losses.append(loss.item())
        self.mean.update(len(self.losses))
        tick()
        self.step_phases_ms.append([1e3 * seconds for seconds in np.diff(ticks)])

    def cost(self, plain: "_Trainee") -> Cost:
        """What the timed steps took, beside those of the plain training, and a profile of two more."""
        phases_ms = np.array(self.step_phases_ms[WARM_UP:])
        steps = phases_ms.sum(1)
        p10, median, p90 = (float(np.percentile(steps, q)) for q in (10, 50, 90))
        plain_ms = float(np.median(np.array(plain.step_phases_ms[WARM_UP:]).sum(1)))
        own, other = np.array(self.losses), np.array(plain.losses)
        return Cost(
            self.label,
            dict(zip(PHASES, np.median(phases_ms, 0).tolist(), strict=True)),
            (median, p10, p90),
            self.size / median * 1e3,
            self.size / plain_ms * 1e3,
            float(np.max(np.abs(own - other) / other)),
            median / 1e3 * -(-self.num_slates // self.size),
            self._profile(),
        )

    def _profile(self) -> dict[str, float]:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            self.step()
            self.step()
        time_us = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        whole = sum(time_us.values())
        largest = sorted(time_us, key=lambda name: -time_us[name])[:TOP]
        return {name.removeprefix("aten::"): time_us[name] / whole for name in largest}


@contextmanager
def _padded(is_plain: bool) -> Iterator[None]:
    """With `is_plain`, models take all users of a batch together, padded to the longest history."""
    before = by_length.PART
    by_length.PART = 1 << 40 if is_plain else before
    try:
        yield
    finally:
        by_length.PART = before


def run_training_bench(
    out: Path, progress: Progress, header: Mapping[str, str], *, quick: bool
) -> list[Path]:
    """Time training, write `training.md` and `training.json`; return their paths.

    Args:
        out: folder, made if absent.
        progress: told after every round.
        header: what made it, on which machine.
        quick: three steps of two models, to see that it works.
    """
    recipe = load_recipe(RECIPE)
    labels = MODELS[-2:] if quick else MODELS
    costs = list(_time_all(ingest(recipe), recipe, labels, 3 if quick else STEPS, progress))
    plain = {**header, "costs": [asdict(cost) for cost in costs]}
    return write_report(out, "training", to_markdown(costs, recipe, header), plain)


def _time_all(
    events: Events, recipe: Recipe, labels: Sequence[str], steps: int, progress: Progress
) -> Iterator[Cost]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [
            [_Trainee(label, events, recipe, is_plain=plain) for plain in (False, True)]
            for label in labels
        ]
        for done in range(WARM_UP + steps):
            progress(done, WARM_UP + steps)
            for trainee in chain.from_iterable(pairs):
                trainee.step()
        progress(WARM_UP + steps, WARM_UP + steps)
        for trainee, plain in pairs:
            yield trainee.cost(plain)
    finally:
        torch.set_num_threads(threads)


def to_markdown(costs: Sequence[Cost], recipe: Recipe, header: Mapping[str, str]) -> str:
    """The costs as tables, with how they were taken."""
    rule, sampling = recipe.train, recipe.sampling
    lines = ["# Slates per second of training", "", f"Made by `{header['command']}`.", ""]
    lines += [f"- {name}: {value}" for name, value in header.items() if name != "command"]
    lines += [
        "",
        f"The task of `{RECIPE.name}`, L = {recipe.history.length:,}, one thread, steps of {rule.slates_per_step} "
        f"slates with up to {sampling.positives} positives and {sampling.negatives} sampled negatives, no dropout. "
        "Medians (10th to 90th percentile) of steps taken in turn. An epoch shows every slate once. `plainly`: all "
        "users of a step together, padded to the longest history, and one weight after another in the optimiser; "
        "`loss gap`: the largest relative difference of a step's loss.",
        "",
    ]
    rows = []
    for cost in costs:
        median, p10, p90 = cost.step_ms
        phases = [f"{cost.phase_ms[phase]:.1f}" for phase in PHASES]
        step = f"{median:.1f} ({p10:.1f} to {p90:.1f})"
        speed = cost.slates_per_s / cost.plain_slates_per_s
        speeds = [f"{cost.slates_per_s:.0f}", f"{cost.plain_slates_per_s:.0f}", f"{speed:.2f}"]
        gap = f"{cost.loss_gap:.0e}"
        rows.append([cost.model, *speeds, gap, step, *phases, f"{cost.epoch_s:.0f}"])
    headings = ["model", "slates/s", "plainly", "times", "loss gap", "step ms"]
    headings += [*(f"{phase} ms" for phase in PHASES), "epoch s"]
    lines += [
        *markdown_table(headings, rows),
        "",
        "Where the time goes, by operator (share of a step):",
        "",
    ]
    for cost in costs:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in cost.operators.items())
        lines.append(f"- {cost.model}: {shares}")
    return "\n".join(lines) + "\n"
