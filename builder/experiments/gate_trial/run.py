"""The trial: each case goes through the gate's own step against the serving model, and leaves a JSON."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from builder.audit.report import JSON, Audit
from builder.audit.run import audit
from builder.errors import GateError
from builder.experiments.gate_trial.cases import LOGS, SERVING, Case, cases
from builder.experiments.gate_trial.trainings import Training, artifact_of
from builder.gate.report import GateReport
from builder.gate.run import decide, require_passed
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact
from models.contract.generation import Generation


@dataclass(frozen=True, eq=False)
class Trial:
    """A recipe's trial.

    Attributes:
        recipe: the recipe; its `gate` has the margins.
        root: folder of the log, the trainings, the artifacts and the verdicts.
        seeds: trainings of the recipe itself; the first one serves.
        steps: of the trainings on damaged logs; 0: those of the recipe.
        is_warm: whether they go on from the serving model.
        progress: called in trainings and comparisons.
    """

    recipe: Recipe
    root: Path
    seeds: int = 3
    steps: int = 0
    is_warm: bool = False
    progress: Progress = silent

    @cached_property
    def events(self) -> Events:
        """The recipe's log."""
        folder = self.root / "events"
        if not folder.is_dir():
            ingest(self.recipe).save(folder)
        return Events.load(folder)

    @property
    def artifacts(self) -> Path:
        """Folder of all artifacts."""
        return self.root / "artifacts"

    @property
    def trainings(self) -> Path:
        """Folder of all trainings."""
        return self.root / "trainings"

    @cached_property
    def serving(self) -> Artifact:
        """The good model that serves."""
        return self._artifact(SERVING, "clean")

    def cases(self) -> list[Case]:
        """The cases that make sense for the log."""
        steps = self.steps or self.recipe.train.steps
        has_pools = self.events.pools is not None
        found = cases(self.recipe, steps, self.seeds, is_warm=self.is_warm)
        return [case for case in found if has_pools or not case.needs_pools]

    def log(self, name: str) -> Events:
        """A log of `LOGS`."""
        return _log(self, name)

    def candidate(self, case: Case) -> Artifact:
        """The model of a case."""
        if case.training.after:
            _ = self.serving  # it goes on from there
        made = self._artifact(case.training, case.learnt)
        return made if case.damage is None else case.damage(made, self.events)

    def report(self, case: Case) -> GateReport:
        """What the gate's step reports; its files are in the folder of the case."""
        folder = self.place(case).parent / case.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        new, log = self.candidate(case), self.log(case.asked)
        self._audit(case.asked).save(folder)
        return decide(self.recipe, new, log, self._generation(), folder, self.progress)

    def place(self, case: Case) -> Path:
        """File of a verdict."""
        return self.root / "verdicts" / f"{case.name.replace(' ', '-')}.json"

    def run(self) -> Iterator[dict[str, Any]]:
        """The verdict of every case."""
        yield from map(self.verdict, self.cases())

    def verdict(self, case: Case) -> dict[str, Any]:
        """The verdict of a case, in JSON types; read if it is there."""
        place = self.place(case)
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(self._verdict(case), indent=1))
        found: dict[str, Any] = json.loads(place.read_text())
        return found

    def seed_artifacts(self) -> list[Artifact]:
        """The recipe's own model, trained with each seed."""
        trainings = [Training(f"seed-{seed}", seed) for seed in range(self.seeds)]
        return [self._artifact(training, "clean") for training in trainings]

    def _verdict(self, case: Case) -> dict[str, Any]:
        self.candidate(case)  # trained before the gate's time is taken
        began_s, code = time.process_time(), 0
        report = self.report(case)
        spent_s = time.process_time() - began_s
        try:
            require_passed(report, self.root, is_forced=False)
        except GateError as error:
            code = error.exit_code
        return {
            "case": case.name,
            "about": case.about,
            "expected": case.expected,
            "verdict": report.verdict,
            "exit_code": code,
            "failed": [check.name for check in report.failures],
            "cpu_s": spent_s,
            "checks": [asdict(check) for check in report.checks],
            "new": None if report.measured is None else asdict(report.measured.new),
            "old": report.measured and report.measured.old and asdict(report.measured.old),
        }

    def _audit(self, log: str) -> Audit:
        """The leak audit of a log, made once."""
        folder = self.root / "audits" / log.replace(" ", "-")
        if not (folder / JSON).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            audit(self.log(log), self.recipe).save(folder)
        return Audit.load(folder)

    def _artifact(self, training: Training, log: str) -> Artifact:
        return artifact_of(
            training,
            self.log(log),
            self.recipe,
            self.trainings,
            self.artifacts,
            is_measured=training == SERVING,
            progress=self.progress,
        )

    def _generation(self) -> Generation:
        artifact, as_of_s = self.serving, self.events.as_of_s
        own = (self.recipe.serve_as, "20000101T000000Z-000000", artifact.artifact_id)
        return Generation(*own, self.events.num_users, as_of_s, as_of_s, self.recipe.cache.dtype)


@lru_cache(maxsize=2)
def _log(trial: Trial, name: str) -> Events:
    return LOGS[name](trial.events, trial.recipe)
