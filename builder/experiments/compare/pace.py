"""How fast a comparison goes, and how long it will take."""

from collections.abc import Sequence

from builder.experiments.compare.plan import Outcomes, Plan, Training
from builder.recipe.models import Variant


class Pace:
    """Seconds of the finished trainings; trials apart, which are shorter.

    Args:
        plan: all trainings.
        variants: those that are wanted.
    """

    def __init__(self, plan: Plan, variants: Sequence[Variant]) -> None:
        self._seconds: dict[bool, list[float]] = {True: [], False: []}
        self._seen: set[str] = set()
        self.new(plan, variants)

    def new(self, plan: Plan, variants: Sequence[Variant]) -> list[Training]:
        """Trainings that have finished since the last call."""
        found = []
        for variant in variants:
            chosen = plan.chosen(variant)
            rest = [] if chosen is None else plan.all_of(variant, chosen)
            for training in (*plan.trials(variant), *rest):
                # A sweep's value may be the variant's own: then one training is both.
                key = training.key("")
                outcome = None if key in self._seen else plan.outcomes.find(training)
                if outcome is not None:
                    self._seen.add(key)
                    self._seconds[training.is_trial].append(outcome["total_seconds"])
                    found.append(training)
        return found

    def estimate(self, plan: Plan, variants: Sequence[Variant], workers: int) -> str:
        """Time left, as text: an upper bound is not known, since trainings end when they stop learning."""
        state = plan.state(variants)
        left = [*state.due, *state.waiting]
        if not left:
            return "all trained"
        seconds = 0.0
        for is_trial, known in self._seconds.items():
            number = sum(training.is_trial is is_trial for training in left)
            if number and not known:
                return "time left unknown"
            seconds += number * sum(known) / max(len(known), 1)
        minutes = seconds / workers / 60
        return (
            f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
        )


def in_words(training: Training, outcomes: Outcomes) -> str:
    """One line about a finished training."""
    outcome = outcomes.find(training)
    if outcome is None:
        return f"{training.label}, seed {training.seed}: not finished"
    if training.is_trial:
        now = outcome["validation"]
        gauc = "" if now.get("gauc") is None else f", GAUC {now['gauc']:.4f}"
        return f"{training.label}: validation AUC {now['auc']:.4f}{gauc}"
    test = outcome["test"]
    gauc = "" if test.get("slate_gauc") is None else f", GAUC {test['slate_gauc']:.4f}"
    steps = f"{outcome['steps']} steps ({outcome['ended']}), {outcome['total_seconds']:.0f} s"
    return f"{training.label}, seed {training.seed}: AUC {test['auc']:.4f}{gauc}; {steps}"
