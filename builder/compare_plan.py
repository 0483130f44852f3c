"""What a comparison has to train, and what is known of each training: one JSON file, so that a killed run goes on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.ingest import input_fingerprint
from builder.recipe import Recipe
from builder.recipe_models import SHARE, ModelChoice, Sweep, Variant
from models.registry import make_config

Outcome = dict[str, Any]
TRIAL_SEED = 10_000
"""Of the search: none of the reported seeds, which count from 0."""
SECTIONS = ("data", "split", "history", "negatives", "train")


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        label: says what it is, in file names and messages.
        variant: label of the variant that it is, or starts from.
        recipe: with the model, learning rate, steps and seed of this training.
        is_trial: it is validated only; the test period is not looked at.
    """

    label: str
    variant: str
    recipe: Recipe
    is_trial: bool = False

    @property
    def seed(self) -> int:
        """Of the first weights and of the batches."""
        return self.recipe.train.seed

    def key(self, log: str) -> str:
        """Hash of all that decides the outcome but the code: 16 hex digits; labels are not among it."""
        model = self.recipe.model
        parts = [
            log, self.recipe.fingerprint(SECTIONS), model.name, without_defaults(model),
            self.is_trial,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def without_defaults(model: ModelChoice) -> dict[str, Any]:
    """What a config says beyond its model's defaults: a key that a later version adds changes nothing."""
    config, plain = make_config(model.name, model.config), make_config(model.name, {})
    return {
        key: getattr(config, key)
        for key in model.config
        if getattr(config, key) != getattr(plain, key)
    }


class Outcomes:
    """The finished trainings of a folder.

    Args:
        folder: of their files.
        recipe: of the comparison; its log is part of each training's key.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self._log = input_fingerprint(recipe)
        self._read: dict[str, Outcome] = {}

    def place(self, training: Training) -> Path:
        """Where its outcome is to be written."""
        label = training.label.replace("/", "-")
        return self.folder / f"{label}-seed{training.seed}-{training.key(self._log)}.json"

    def find(self, training: Training) -> Outcome | None:
        """What came of it; None if it is not finished. Another label may have trained the same."""
        key = training.key(self._log)
        if key not in self._read:
            for path in self.folder.glob(f"*-{key}.json"):
                self._read[key] = json.loads(path.read_text())
        return self._read.get(key)


@dataclass(frozen=True)
class State:
    """How far a plan is.

    Attributes:
        due: what can be trained now, and what is being trained.
        waiting: what waits for a search to end; its learning rate is a placeholder.
        total: all trainings, finished ones too.
    """

    due: list[Training]
    waiting: list[Training]
    total: int

    @property
    def done(self) -> int:
        """Finished trainings."""
        return self.total - len(self.due) - len(self.waiting)


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        recipe: of the comparison.
        seeds: trainings of each variant.
        outcomes: what is finished.
    """

    recipe: Recipe
    seeds: int
    outcomes: Outcomes

    def trials(self, variant: Variant) -> list[Training]:
        """One for each learning rate of the search."""
        steps = self.recipe.search.steps or self.recipe.train.steps
        return [
            self._training(
                f"{variant.label}, trial of {rate:g}", variant, variant.model, rate, TRIAL_SEED,
                steps=steps, is_trial=True,
            )
            for rate in self.recipe.search.learning_rate
        ]  # fmt: skip

    def chosen_rate(self, variant: Variant) -> float | None:
        """Of the trial with the best validation AUC, the first of equals; None while one is missing."""
        if not self.recipe.search.learning_rate:
            return self.recipe.train.learning_rate
        finished = self.finished(self.trials(variant))
        if len(finished) < len(self.recipe.search.learning_rate):
            return None
        best = max(finished, key=lambda outcome: float(outcome["validation"]["auc"]))
        return float(best["learning_rate"])

    def trainings(self, variant: Variant, rate: float) -> list[Training]:
        """One for each seed."""
        return [
            self._training(variant.label, variant, variant.model, rate, seed)
            for seed in range(self.seeds)
        ]

    def sweep_trainings(self, sweep: Sweep, rate: float) -> list[tuple[Any, list[Training]]]:
        """Value -> one training for each seed."""
        variant = self.variant(sweep.variant)
        found = []
        for value in sweep.values:
            base, model = self, variant.model
            if sweep.key == SHARE:
                rule = replace(self.recipe.train, share=value)
                base = replace(self, recipe=replace(self.recipe, train=rule))
            else:
                model = replace(model, config={**model.config, sweep.key: value})
            label = f"{variant.label}, {sweep.key} = {value}"
            seeds = range(sweep.seeds or self.seeds)
            found.append(
                (value, [base._training(label, variant, model, rate, seed) for seed in seeds])
            )
        return found

    def finished(self, trainings: Sequence[Training]) -> list[Outcome]:
        """What came of those that are finished."""
        found = (self.outcomes.find(training) for training in trainings)
        return [outcome for outcome in found if outcome is not None]

    def variant(self, label: str) -> Variant:
        """By its label."""
        return next(variant for variant in self.recipe.variant if variant.label == label)

    def all_of(self, variant: Variant, rate: float) -> Iterator[Training]:
        """Everything but trials: its seeds, then the sweeps that start from it."""
        yield from self.trainings(variant, rate)
        for sweep in self.recipe.sweep:
            if sweep.variant == variant.label:
                for _, trainings in self.sweep_trainings(sweep, rate):
                    yield from trainings

    def state(self, variants: Sequence[Variant]) -> State:
        """How far it is."""
        due: list[Training] = []
        waiting: list[Training] = []
        total = 0
        for variant in variants:
            trials, rate = self.trials(variant), self.chosen_rate(variant)
            # Before the search is over any rate will do to count what waits for it.
            rest = list(self.all_of(variant, rate or self.recipe.train.learning_rate))
            # A sweep's value may be the variant's own: then one training is both, under the variant's name.
            rest = list({training.key(""): training for training in reversed(rest)}.values())[::-1]
            total += len(trials) + len(rest)
            due += self._missing(trials)
            if rate is None:
                waiting += rest
            else:
                due += self._missing(rest)
        return State(due, waiting, total)

    def _missing(self, trainings: Sequence[Training]) -> list[Training]:
        return [training for training in trainings if self.outcomes.find(training) is None]

    def _training(
        self, label: str, variant: Variant, model: ModelChoice, rate: float, seed: int,
        *, steps: int | None = None, is_trial: bool = False,
    ) -> Training:  # fmt: skip
        rule = replace(
            self.recipe.train, seed=seed, threads=1, learning_rate=rate,
            steps=steps or self.recipe.train.steps,
        )  # fmt: skip
        recipe = replace(self.recipe, model=model, train=rule, variant=(), sweep=())
        return Training(label, variant.label, recipe, is_trial)
