"""The trainings of a simulation: one folder for each, kept, so that an interrupted simulation goes on."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from builder.checkpoint import Checkpoint
from builder.experiments.days.nights import Night
from builder.ingest.events import Events
from builder.progress import Progress
from builder.recipe.recipe import Recipe
from builder.train.train import train
from builder.train.warm_start import WarmStart

Kind = Literal["full", "warm"]
DONE = "done.json"


@dataclass(frozen=True)
class Protocol:
    """How much is trained.

    Attributes:
        steps: of a training from random weights; 0: those of the recipe.
        warm_steps: of a warm start.
        full_nights: numbers of the nights on which a full training runs too; night 0 always has one.
        validate_days: length of the validation part before each cut.
    """

    steps: int
    warm_steps: int
    full_nights: Sequence[int]
    validate_days: float

    def recipe(self, recipe: Recipe, kind: Kind, seed: int) -> Recipe:
        """The recipe of a training."""
        rule = replace(recipe.train, seed=seed, warm_start=self.warm_steps)
        if self.steps:
            every = min(rule.validate_every, self.steps)
            rule = replace(rule, steps=self.steps, validate_every=every)
        if kind == "warm":
            rule = replace(rule, validate_every=self.warm_steps)
        return replace(recipe, train=rule)


@dataclass(frozen=True)
class Generation:
    """One training: kind, night and seed.

    Attributes:
        kind: from random weights, or from the night before.
        night: its night.
        seed: of the first weights and of the batches.
    """

    kind: Kind
    night: Night
    seed: int

    def folder(self, root: Path) -> Path:
        """Where its checkpoint is."""
        return root / f"seed-{self.seed}" / f"{self.kind}-{self.night.number:02}"

    def is_done(self, root: Path) -> bool:
        """Whether it is trained."""
        return (self.folder(root) / DONE).is_file()

    def minutes(self, root: Path) -> tuple[float, float]:
        """Minutes of wall time and of processor time that it took."""
        done = json.loads((self.folder(root) / DONE).read_text())
        return done["wall_s"] / 60, done["cpu_s"] / 60

    def checkpoint(self, root: Path) -> Checkpoint:
        """The trained model."""
        return Checkpoint.load(self.folder(root))


def before(generation: Generation, nights: Sequence[Night]) -> Generation:
    """The training that a warm start goes on from: night 0 has a full one only."""
    night = nights[generation.night.number - 1]
    return replace(generation, kind="warm" if night.number else "full", night=night)


def planned(nights: Sequence[Night], seed: int, protocol: Protocol) -> list[Generation]:
    """The trainings of a seed in the order in which they can run."""
    found = [Generation("full", nights[0], seed)]
    found += [Generation("warm", night, seed) for night in nights[1:]]
    full = [night for night in nights[1:] if night.number in protocol.full_nights]
    return found + [Generation("full", night, seed) for night in reversed(full)]


def train_generation(
    generation: Generation,
    nights: Sequence[Night],
    events: Callable[[], Events],
    recipe: Recipe,
    protocol: Protocol,
    root: Path,
    progress: Progress,
) -> None:
    """Train one generation, unless it is trained.

    Args:
        generation: what to train.
        nights: all of them.
        events: makes the night's log; called only if there is something to do.
        recipe: of the simulation.
        protocol: how much is trained.
        root: folder of the recipe's trainings.
        progress: of the training's steps.
    """
    if generation.is_done(root):
        return
    start = None
    if generation.kind == "warm":
        start = WarmStart.load(before(generation, nights).folder(root))
    folder, own = generation.folder(root), protocol.recipe(recipe, generation.kind, generation.seed)
    log = events()
    wall_s, cpu_s = time.monotonic(), time.process_time()
    checkpoint = train(log, own, progress, folder=folder / "unfinished", start=start)
    spent = {"wall_s": time.monotonic() - wall_s, "cpu_s": time.process_time() - cpu_s}
    checkpoint.save(folder)
    spent["first_step"] = 0 if start is None else start.step
    spent["last_step"] = checkpoint.history[-1]["step"]
    spent["validation_gauc"] = checkpoint.best["gauc"]
    (folder / DONE).write_text(json.dumps(spent, indent=1))
