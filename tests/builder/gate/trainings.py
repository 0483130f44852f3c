"""Models of the tiny recipe for tests of the gate: good ones of several seeds, and bad ones that somebody planted."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.report import evaluate
from builder.export.onnx import export
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.recipe.recipe import Recipe, load_recipe
from builder.train.train import train
from models.contract.artifact import Artifact
from tests.builds import RECIPE


def tiny_recipe() -> Recipe:
    recipe = load_recipe(RECIPE)
    return replace(recipe, train=replace(recipe.train, threads=1))


@dataclass
class Trainings:
    """Artifacts of the tiny recipe, each made once and only when a test asks for it."""

    artifacts: Path
    recipe: Recipe = field(default_factory=tiny_recipe)
    _checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    @cached_property
    def events(self) -> Events:
        return ingest(self.recipe)

    def checkpoint(self, seed: int = 0, events: Events | None = None, name: str = "") -> Checkpoint:
        """A training with a seed, on another log if `events` (and a name for it) is given."""
        key = f"{seed} {name}"
        if key not in self._checkpoints:
            recipe = replace(self.recipe, train=replace(self.recipe.train, seed=seed))
            self._checkpoints[key] = train(events or self.events, recipe)
        return self._checkpoints[key]

    def artifact(
        self, checkpoint: Checkpoint, events: Events | None = None, **report: Any
    ) -> Artifact:
        """A checkpoint as an artifact, with its report on the test period.

        Args:
            checkpoint: the model.
            events: the log, whose vocabulary the artifact gets; None: the log that the models are trained on.
            report: replaces keys of the report, such as "calibration".
        """
        log = events or self.events
        measured = evaluate(
            checkpoint, self.events, self.recipe, with_baselines=False, is_lean=True
        ).to_dict()
        slates, source = (
            part_slates(log, self.recipe, "test"),
            batch_source(log, self.recipe, "test"),
        )
        sample = source.batch(slates, np.arange(4), np.random.default_rng(0))[0]
        return export(
            checkpoint, {**measured, **report}, self.recipe.to_dict(), log, sample, self.artifacts
        )

    @cached_property
    def good(self) -> Artifact:
        return self.artifact(self.checkpoint())

    @cached_property
    def retrained(self) -> Artifact:
        """The same recipe with another seed."""
        return self.artifact(self.checkpoint(seed=1))

    @cached_property
    def shifted(self) -> Artifact:
        """The good model, whose vocabulary names every item's neighbour: ids map to wrong rows."""
        items = self.events.vocabulary.items
        vocabulary = replace(self.events.vocabulary, items=[*items[1:], items[0]])
        return self.artifact(self.checkpoint(), replace(self.events, vocabulary=vocabulary))

    @cached_property
    def constant(self) -> Artifact:
        """A model whose weights are all 0: one score for everything."""
        good = self.checkpoint()
        zeros = {
            name: torch.zeros_like(weight) if weight.is_floating_point() else weight
            for name, weight in good.weights.items()
        }
        return self.artifact(replace(good, weights=zeros))

    @cached_property
    def untrained(self) -> Artifact:
        """A model with its first weights."""
        recipe = replace(self.recipe, train=replace(self.recipe.train, steps=1, learning_rate=1e-9))
        return self.artifact(train(self.events, recipe))

    def miscalibrated(self, factor: float) -> Artifact:
        """The good model, which predicts `factor` times the clicks where clicks are rare."""
        kept = {"kind": "temperature", "scale": 1.0, "shift": float(np.log(factor))}
        return self.artifact(self.checkpoint(), calibration={"kept": kept})
