"""Trainings of a comparison, and their outcomes: one JSON file each, so that a killed run can go on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.evaluate.slate_evaluation import Vectors, load_vectors
from builder.experiments.compare.search import TRIAL_SEED, in_words, settings
from builder.recipe.language import LanguageRule
from builder.recipe.models import SHARE, ModelChoice, Setting, Sweep, Variant, with_llm_dim
from builder.recipe.recipe import Recipe, TrainRule
from builder.train.stopping import goodness
from models.registry import make_config

Outcome = dict[str, Any]
SECTIONS = ("data", "split", "history", "negatives", "sampling", "train", "language")


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        label: in file names and messages.
        variant: label of the variant that it trains or, in a sweep, starts from.
        recipe: with the model, learning rate, steps and seed of this training.
        is_trial: it is only validated; the test period is not used.
        is_lean: its report has metrics only, without the breakdowns that explain a long history.
    """

    label: str
    variant: str
    recipe: Recipe
    is_trial: bool = False
    is_lean: bool = False

    @property
    def seed(self) -> int:
        """Of the first weights and of the batches."""
        return self.recipe.train.seed

    def key(self, log: str) -> str:
        """16 hex digits of a hash of everything that decides the outcome except the code; labels are not part of it."""
        parts = [log, *self._content]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _content(self) -> list[Any]:
        model = self.recipe.model
        sections = self.recipe.fingerprint(SECTIONS)
        return [sections, model.name, without_defaults(model), self.is_trial]


def without_defaults(model: ModelChoice) -> dict[str, Any]:
    """Keys that differ from the model's defaults: a key that a later version adds changes nothing."""
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
        log: fingerprint of the log's files, part of each training's key.
    """

    def __init__(self, folder: Path, log: str) -> None:
        self.folder, self._log = folder, log
        self._read: dict[str, Outcome] = {}
        self._there = {path.stem.rsplit("-", 1)[-1]: path for path in folder.glob("*.json")}

    def place(self, training: Training) -> Path:
        """File of its outcome."""
        label = training.label.replace("/", "-")
        return self.folder / f"{label}-seed{training.seed}-{training.key(self._log)}.json"

    def find(self, training: Training) -> Outcome | None:
        """Its outcome; None if it is not finished. The same training may have run under another label."""
        key = training.key(self._log)
        if key not in self._read:
            path = self._there.get(key, self.place(training))
            if path.exists():
                self._read[key] = json.loads(path.read_text())
        outcome = self._read.get(key)
        # A lean outcome (metrics only) serves a lean training; a full one has to be trained again.
        is_lean = outcome is not None and outcome.get("cuts") == {}
        return None if is_lean and not training.is_lean else outcome

    def vectors(self, training: Training) -> Vectors | None:
        """Metrics of each test slate of a finished training; None where they were not kept."""
        key = training.key(self._log)
        path = self._there.get(key, self.place(training)).with_suffix(".npz")
        return load_vectors(path) if path.is_file() else None


@dataclass(frozen=True)
class State:
    """Progress of a plan.

    Attributes:
        due: trainings that can start now, and those that run.
        waiting: trainings that wait for a search to end; their learning rate is a placeholder.
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
        seeds: trainings of each variant, unless it has a smaller number of its own.
        outcomes: finished trainings.
        is_lean: see `Training`.
    """

    recipe: Recipe
    seeds: int
    outcomes: Outcomes
    is_lean: bool = False
    _made: dict[str, list[Training]] = field(default_factory=dict, repr=False, compare=False)

    def trials(self, variant: Variant) -> list[Training]:
        """One for each setting of the search. Made once: this is called after every training."""
        if variant.label not in self._made:
            self._made[variant.label] = self._trials(variant)
        return self._made[variant.label]

    def _trials(self, variant: Variant) -> list[Training]:
        steps = self.recipe.search.steps or rule_of(self.recipe, variant).steps
        return [
            self._training(
                f"{variant.label}, trial of {in_words(setting)}",
                variant,
                variant.model,
                setting,
                TRIAL_SEED,
                steps=steps,
                is_trial=True,
            )
            for setting in settings(self.recipe, variant)
        ]

    def chosen(self, variant: Variant) -> Setting | None:
        """Of the trial with the best validation, the first of equals; None while one is missing."""
        tried = settings(self.recipe, variant)
        if not tried:
            rule = rule_of(self.recipe, variant)
            return Setting(rule.learning_rate, rule.weight_decay)
        finished = self.finished(self.trials(variant))
        if len(finished) < len(tried):
            return None
        return tried[max(range(len(tried)), key=lambda i: goodness(finished[i]["validation"]))]

    @property
    def usual(self) -> Setting:
        """The recipe's, where nothing is searched."""
        return Setting(self.recipe.train.learning_rate, self.recipe.train.weight_decay)

    def trainings(self, variant: Variant, setting: Setting) -> list[Training]:
        """One for each seed. Made once, as trials are."""
        name = f"{variant.label}, {setting}"
        if name not in self._made:
            self._made[name] = [
                self._training(variant.label, variant, variant.model, setting, seed)
                for seed in range(min(self.seeds, variant.seeds or self.seeds))
            ]
        return self._made[name]

    def sweep_trainings(self, sweep: Sweep, setting: Setting) -> list[tuple[Any, list[Training]]]:
        """Value -> one training for each seed."""
        variant = self.variant(sweep.variant)
        by_value = []
        for value in sweep.values:
            base, model = self, variant.model
            if sweep.key == SHARE:
                rule = replace(self.recipe.train, share=value)
                base = replace(self, recipe=replace(self.recipe, train=rule))
            else:
                model = replace(model, config={**model.config, sweep.key: value})
            label = f"{variant.label}, {sweep.key} = {value}"
            seeds = range(sweep.seeds or self.seeds)
            # The value of the sweep replaces what the search chose for its key.
            rest = {key: own for key, own in setting.config.items() if key != sweep.key}
            kept = replace(setting, config=rest)
            by_value.append(
                (value, [base._training(label, variant, model, kept, seed) for seed in seeds])
            )
        return by_value

    def finished(self, trainings: Sequence[Training]) -> list[Outcome]:
        """What came of those that are finished."""
        outcomes = (self.outcomes.find(training) for training in trainings)
        return [outcome for outcome in outcomes if outcome is not None]

    def wanted(self, only: Sequence[str]) -> list[Variant]:
        """The variants with these labels, in the recipe's order; without labels all."""
        return [variant for variant in self.recipe.variant if not only or variant.label in only]

    def variant(self, label: str) -> Variant:
        """By its label."""
        return next(variant for variant in self.recipe.variant if variant.label == label)

    def in_order(self, variants: Sequence[Variant]) -> list[Training]:
        """Trainings that can start, most important first.

        Variants are in the recipe's order, each with its trials, its seeds and its sweeps.
        """
        order: list[Training] = []
        for variant in variants:
            order += self.trials(variant)
            chosen = self.chosen(variant)
            if chosen is not None:
                order += self.all_of(variant, chosen)
        return self._missing(_distinct(order))

    def all_of(self, variant: Variant, setting: Setting) -> Iterator[Training]:
        """Everything but trials: its seeds, then the sweeps that start from it."""
        yield from self.trainings(variant, setting)
        for sweep in self.recipe.sweep:
            if sweep.variant == variant.label:
                for _, trainings in self.sweep_trainings(sweep, setting):
                    yield from trainings

    def state(self, variants: Sequence[Variant]) -> State:
        """How far it is."""
        due: list[Training] = []
        waiting: list[Training] = []
        total = 0
        for variant in variants:
            trials, chosen = self.trials(variant), self.chosen(variant)
            # Before the search is over any setting will do to count what waits for it.
            rest = list(self.all_of(variant, chosen or self.usual))
            rest = _distinct(rest)
            total += len(trials) + len(rest)
            due += self._missing(trials)
            if chosen is None:
                waiting += rest
            else:
                due += self._missing(rest)
        return State(due, waiting, total)

    def _missing(self, trainings: Sequence[Training]) -> list[Training]:
        return [training for training in trainings if self.outcomes.find(training) is None]

    def _training(
        self,
        label: str,
        variant: Variant,
        model: ModelChoice,
        setting: Setting,
        seed: int,
        *,
        steps: int | None = None,
        is_trial: bool = False,
    ) -> Training:
        own = rule_of(self.recipe, variant)
        rule = replace(
            own,
            seed=seed,
            threads=1,
            learning_rate=setting.learning_rate,
            weight_decay=setting.weight_decay,
            steps=steps or own.steps,
        )
        language = language_of(self.recipe, variant)
        model = with_llm_dim(replace(model, config={**model.config, **setting.config}), language)
        history = replace(self.recipe.history, length=length_of(self.recipe, variant))
        recipe = replace(
            self.recipe,
            model=model,
            train=rule,
            history=history,
            variant=(),
            sweep=(),
            language=language,
        )
        return Training(label, variant.label, recipe, is_trial, self.is_lean)


def _distinct(trainings: Sequence[Training]) -> list[Training]:
    """Each once, at its first place: a sweep's value may be the variant's own; then it has the variant's name."""
    first: dict[str, Training] = {}
    for training in trainings:
        first.setdefault(training.key(""), training)
    return list(first.values())


def rule_of(recipe: Recipe, variant: Variant) -> TrainRule:
    """The recipe's rule of training with the variant's own keys."""
    return replace(recipe.train, **variant.train)


def length_of(recipe: Recipe, variant: Variant) -> int:
    """L: the variant's own or the recipe's, the smaller."""
    return min(variant.length or recipe.history.length, recipe.history.length)


def language_of(recipe: Recipe, variant: Variant) -> LanguageRule | None:
    """The recipe's, with the variant's vectors; None for a variant without."""
    if variant.vectors is None:
        return None
    return replace(recipe.language or LanguageRule(), vectors=variant.vectors)
