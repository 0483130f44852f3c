"""Trainings of a trial: each in a folder with a JSON when it is finished, so that a stopped trial goes on."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.calibration import choose_calibration, validation_scores
from builder.evaluate.measure import measure_model
from builder.export.onnx import export
from builder.export.sample import export_sample
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from builder.train.train import train
from builder.train.warm_start import WarmStart
from models.contract.artifact import Artifact, load_artifact

DONE, EXPORTED = "done.json", "exported.json"


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its folder.
        seed: of the first weights and of the batches.
        steps: 0: those of the recipe, for a warm start too.
        after: name of the training that it goes on from; empty: from random weights.
    """

    name: str
    seed: int = 0
    steps: int = 0
    after: str = ""

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of this training."""
        rule = replace(recipe.train, seed=self.seed)
        if self.after:
            steps = self.steps or rule.warm_start or max(1, rule.steps // 10)
            rule = replace(rule, warm_start=steps, validate_every=steps)
        elif self.steps:
            every = min(rule.validate_every, self.steps)
            rule = replace(rule, steps=self.steps, validate_every=every)
        return replace(recipe, train=rule)


def checkpoint_of(
    training: Training, events: Events, recipe: Recipe, root: Path, progress: Progress = silent
) -> Checkpoint:
    """Train, unless the folder holds the result.

    Args:
        training: what to train.
        events: the log, damaged or not.
        recipe: of the trial.
        root: folder of all trainings.
        progress: of the steps.
    """
    folder = root / training.name
    if (folder / DONE).is_file():
        return Checkpoint.load(folder)
    start = WarmStart.load(root / training.after) if training.after else None
    wall_s, cpu_s = time.monotonic(), time.process_time()
    own = training.recipe(recipe)
    checkpoint = train(events, own, progress, folder=folder / "unfinished", start=start)
    checkpoint.save(folder)
    spent = {"wall_s": time.monotonic() - wall_s, "cpu_s": time.process_time() - cpu_s}
    spent["last_step"] = checkpoint.history[-1]["step"]
    spent["validation_gauc"] = checkpoint.best["gauc"]
    (folder / DONE).write_text(json.dumps(spent, indent=1))
    return checkpoint


def artifact_of(
    training: Training,
    events: Events,
    recipe: Recipe,
    root: Path,
    artifacts: Path,
    *,
    is_measured: bool = False,
    progress: Progress = silent,
) -> Artifact:
    """The artifact of a training, with the calibration that a build would fit.

    Args:
        training: what to train.
        events: the log.
        recipe: of the trial.
        root: folder of all trainings.
        artifacts: folder of all artifacts.
        is_measured: whether the manifest gets metrics of the test part, as a build's does: the serving model's are
            read by the gate.
        progress: of the training's steps.
    """
    checkpoint = checkpoint_of(training, events, recipe, root, progress)
    exported = root / training.name / EXPORTED
    if exported.is_file():
        return load_artifact(artifacts, json.loads(exported.read_text())["artifact_id"])
    model = checkpoint.build()
    report: dict[str, Any] = {}
    calibration, method = None, recipe.calibration.method
    if method != "none":
        source, slates = (
            batch_source(events, recipe, "validate"),
            part_slates(events, recipe, "validate"),
        )
        chosen = choose_calibration(validation_scores(model, source, slates), method)
        calibration, report["calibration"] = chosen.calibration, chosen.to_dict()
    if is_measured:
        source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
        measured = measure_model(
            model,
            source,
            slates,
            is_lean=True,
            count=recipe.gate.slates,
            calibration=calibration,
        )
        report["test"] = asdict(measured.test)
    sample = export_sample(events, recipe)
    artifact = export(checkpoint, report, recipe.to_dict(), events, sample, artifacts)
    exported.write_text(json.dumps({"artifact_id": artifact.artifact_id}))
    return artifact
