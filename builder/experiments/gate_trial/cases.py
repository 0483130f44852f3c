"""What is planted: bad models that the gate must refuse, and good ones that it must pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from builder.experiments.gate_trial import artifacts, logs
from builder.experiments.gate_trial.trainings import Training
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact

Expected = Literal["passed", "refused"]
SERVING = Training("seed-0")
LEARNT = ("train", "validate")
Damage = Callable[[Artifact, Events], Artifact]
Damaged = Callable[[Events, Recipe], Events]


@dataclass(frozen=True)
class Case:
    """One model that is put through the gate.

    Attributes:
        name: short, for files.
        about: what was done, in words.
        expected: the right verdict.
        training: how the model is trained; that of the serving model if only the artifact is damaged.
        learnt: log that it is trained on: a name of `LOGS`.
        asked: log that the gate compares on.
        damage: done to the artifact; None: nothing.
        needs_pools: makes sense in a log with pools only.
    """

    name: str
    about: str
    expected: Expected
    training: Training = SERVING
    learnt: str = "clean"
    asked: str = "clean"
    damage: Damage | None = None
    needs_pools: bool = False


LOGS: dict[str, Damaged] = {
    "clean": lambda events, recipe: events,
    "a day later": logs.a_day_later,
    "shuffled": lambda events, recipe: logs.with_shuffled_labels(events, LEARNT),
    "all shuffled": lambda events, recipe: logs.with_shuffled_labels(events, (*LEARNT, "test")),
    "leaking field": lambda events, recipe: logs.with_leaking_field(events),
    "leaking history": lambda events, recipe: logs.with_targets_in_history(events),
}
"""Name of a log -> how it is made of the recipe's."""


def cases(recipe: Recipe, steps: int, seeds: int, *, is_warm: bool = False) -> Sequence[Case]:
    """All cases.

    Args:
        recipe: of the trial.
        steps: of the trainings on damaged logs.
        seeds: of the recipe's own training; the first one serves.
        is_warm: whether trainings on damaged logs go on from the serving model, as those of one bad night do.
    """
    after = SERVING.name if is_warm else ""
    return (*_controls(seeds), *_trained(steps, after), *_undertrained(recipe), *_served())


def _controls(seeds: int) -> Sequence[Case]:
    again = Case(
        "same again",
        "the serving model, exported again",
        "passed",
        damage=lambda good, events: artifacts.exported_again(good),
    )
    others = [
        Case(
            f"seed {seed}",
            f"the same recipe, seed {seed}",
            "passed",
            Training(f"seed-{seed}", seed),
        )
        for seed in range(1, seeds)
    ]
    night = Case(
        "next night",
        "a warm start from the serving model, on the log split a day later",
        "passed",
        Training("next-night", after=SERVING.name),
        "a day later",
        "a day later",
    )
    return (again, *others, night)


def _trained(steps: int, after: str) -> Sequence[Case]:
    shuffled = Training("shuffled", steps=steps, after=after)
    about = "trained on labels that were drawn again within each slate; the newest days are right"
    again = "the same, and the newest days are shuffled too"
    return (
        Case("labels shuffled", about, "refused", shuffled, "shuffled"),
        Case("all labels shuffled", again, "refused", shuffled, "shuffled", "all shuffled"),
        *_leaking(
            "field",
            "a field computed from the labels",
            Training("leaking-field", steps=steps, after=after),
        ),
        *_leaking(
            "history",
            "the slate's purchases are in the history a minute before",
            Training("leaking-history", steps=steps, after=after),
            needs_pools=True,
        ),
    )


def _leaking(
    what: str, about: str, training: Training, *, needs_pools: bool = False
) -> Sequence[Case]:
    """The leak in the training's log alone, and in the newest days too."""
    log = f"leaking {what}"
    alone, everywhere = f"{about}; not in the newest days", f"{about}, in the whole log"
    return (
        Case(
            f"{what} leaks, training only",
            alone,
            "refused",
            training,
            log,
            needs_pools=needs_pools,
        ),
        Case(f"{what} leaks", everywhere, "refused", training, log, log, needs_pools=needs_pools),
    )


def _undertrained(recipe: Recipe) -> Sequence[Case]:
    few = Training("few-steps", steps=max(1, recipe.train.steps // 30))
    return (Case("few steps", f"stopped after {few.steps} steps", "refused", few),)


def _served() -> Sequence[Case]:
    def served(name: str, about: str, damage: Damage) -> Case:
        return Case(name, about, "refused", damage=damage)

    return (
        served(
            "rows off by one",
            "the vocabulary names every row's neighbour",
            lambda good, events: artifacts.shifted_items(good),
        ),
        served(
            "vocabulary of another week",
            "the vocabulary of a catalogue without the newest twentieth of the items",
            artifacts.items_of_another_week,
        ),
        served(
            "odds doubled",
            "the calibration doubles the odds",
            lambda good, events: artifacts.with_odds(good, 2.0),
        ),
        served(
            "odds halved",
            "the calibration halves the odds",
            lambda good, events: artifacts.with_odds(good, 0.5),
        ),
        served(
            "ages 0",
            "the encode graph gets 0, the id of padding, for every age",
            lambda good, events: artifacts.with_padded_ages(good),
        ),
        served(
            "ages lost",
            "the encode graph gets the newest age for every event",
            lambda good, events: artifacts.without_ages(good),
        ),
        served(
            "histories empty",
            "the encode graph gets padding for every event of the history",
            lambda good, events: artifacts.without_histories(good),
        ),
    )
