"""A prepared folder: the ingested log and what is to be trained on it. Reading it needs torch and numpy only.

    <folder>/events/       arrays of the log
    <folder>/plan.json     the recipe with its variants and search, and a fingerprint of the input files

The run folder of a recipe is one, after `absorb compare` or `absorb prepare`.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from builder.errors import StepError
from builder.ingest.events import Events
from builder.recipe.plain import recipe_from_plain
from builder.recipe.recipe import Recipe

PLAN = "plan.json"


@dataclass(frozen=True)
class Prepared:
    """What a prepared folder holds, without the log.

    Attributes:
        folder: of the files.
        recipe: with variants, search, budget.
        log: fingerprint of the files that the log was read from.
    """

    folder: Path
    recipe: Recipe
    log: str

    def events(self) -> Events:
        """The log."""
        return Events.load(self.folder / "events")

    def save(self) -> None:
        """Write the plan; the log is written by the ingest step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A sweep's and a variant's train keys name no device: whoever trains says where.
        text = json.dumps({"log": self.log, "recipe": self.recipe.to_dict()}, indent=1)
        staged = self.folder / f"{PLAN}.new"
        staged.write_text(text)
        staged.replace(self.folder / PLAN)

    @classmethod
    def load(cls, folder: Path) -> "Prepared":
        """Read a prepared folder.

        Raises:
            StepError: it is none.
        """
        try:
            plan = json.loads((folder / PLAN).read_text())
        except FileNotFoundError as error:
            raise StepError(
                f"{folder}: got no {PLAN}, expected a folder made by `absorb prepare RECIPE --out {folder}`"
            ) from error
        return cls(folder, recipe_from_plain(plan["recipe"]), plan["log"])

    def on(self, device: str) -> "Prepared":
        """The same, trained on `device`."""
        rule = replace(self.recipe.train, device=device)  # type: ignore[arg-type]
        return replace(self, recipe=replace(self.recipe, train=rule))
