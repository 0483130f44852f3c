"""The simulation: train every generation, score every day under every policy, keep a file for each."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from builder.dataset.request_gap import request_gap_s
from builder.experiments.days.generations import Protocol, planned, train_generation
from builder.experiments.days.nights import (
    Night,
    nights_of,
    read_log,
    require_same_values,
    scored_events,
    trained_events,
)
from builder.experiments.days.policies import DRIFTS, POLICIES, Policy
from builder.experiments.days.scoring import Scored, drift, score_day, write_scored
from builder.ingest.clean import CleanLog
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe


@dataclass(frozen=True)
class Simulation:
    """A recipe, and how it is simulated.

    Attributes:
        recipe: what is trained.
        days: number of days.
        seeds: of the trainings; the first one is scored under all policies, the others under the main four.
        protocol: how much is trained.
        slates: scored each day.
        trainings: folder of checkpoints; large, and not needed for the tables.
        results: folder of a JSON and a few vectors for each day, policy and seed.
    """

    recipe: Recipe
    days: int
    seeds: Sequence[int]
    protocol: Protocol
    slates: int
    trainings: Path
    results: Path

    def place(self, policy: Policy, night: Night, seed: int) -> Path:
        """File of a finished score."""
        name = f"day-{night.number + 1:02}-{policy.name}.json"
        return self.results / f"seed-{seed}" / name

    def is_scored(
        self, policy: Policy, night: Night, seed: int, others: Collection[str] = ()
    ) -> bool:
        """Whether it is finished, with its drift from other policies."""
        place = self.place(policy, night, seed)
        return place.is_file() and set(others) <= json.loads(place.read_text())["drift"].keys()


class Run:
    """A simulation that reads its log once.

    Args:
        simulation: what to do.
        progress: called after every training, score and batch.
    """

    def __init__(self, simulation: Simulation, progress: Progress = silent) -> None:
        self.simulation, self.progress = simulation, progress
        recipe = simulation.recipe
        self.log: CleanLog = read_log(recipe)
        days = simulation.protocol.validate_days
        self.nights = nights_of(self.log, recipe, simulation.days, days)
        self._scored = lru_cache(maxsize=3)(self._make_scored)

    def train(self) -> None:
        """Train what is not trained yet, seed after seed."""
        own = self.simulation
        todo = [one for seed in own.seeds for one in planned(self.nights, seed, own.protocol)]
        for done, one in enumerate(todo):
            name = f"{one.kind}, night {one.night.number}, seed {one.seed}"

            def events(night: Night = one.night) -> Events:
                return trained_events(self.log, night, own.recipe)

            train_generation(
                one,
                self.nights,
                events,
                own.recipe,
                own.protocol,
                own.trainings,
                self._within(done, len(todo), name),
            )
            self.progress(done + 1, len(todo), name)

    def _within(self, outer: int, every: int, name: str) -> Progress:
        """Tells of the steps of one of many trainings."""

        def step(done: int, total: int, note: str = "") -> None:
            self.progress(outer, every, f"{name}: step {done}/{total} {note}")

        return step

    def score(self) -> None:
        """Score every day of every seed whose generations are trained."""
        todo = list(product(self.simulation.seeds, self.nights))
        for done, (seed, night) in enumerate(todo):
            self.progress(done, len(todo), f"day {night.number + 1}, seed {seed}")
            self.score_night(night, seed)
        self.progress(len(todo), len(todo), "")

    def score_night(self, night: Night, seed: int) -> None:
        """Score the day after a night, unless all of it is scored."""
        own, first = self.simulation, self.nights[0]
        wanted = {policy.name: policy for policy in self._wanted(night, seed)}
        others = {mine: [o for m, o in DRIFTS if m == mine and o in wanted] for mine in wanted}
        left = [
            policy
            for name, policy in wanted.items()
            if not own.is_scored(policy, night, seed, others[name])
        ]
        needed = {policy.name for policy in left}.union(*(others[policy.name] for policy in left))
        passes: dict[object, Scored] = {}
        scored: dict[str, Scored] = {}
        for name in sorted(needed):
            policy = wanted[name]
            # On the first day several policies are the same pass.
            key = (
                policy.generation(night, first, seed),
                policy.cut_s(night, first),
                policy.states,
                self._gap_s(policy, night),
            )
            if key not in passes:
                passes[key] = self._pass(policy, night, seed)
            scored[name] = passes[key]
        for policy in left:
            one = policy.generation(night, first, seed)
            wall, cpu = one.minutes(own.trainings)
            about = {
                "policy": policy.name,
                "day": night.number + 1,
                "seed": seed,
                "cut_s": policy.cut_s(night, first),
                "train_minutes": wall,
                "train_cpu_minutes": cpu,
                "gap_s": self._gap_s(policy, night),
            }
            drifts = {
                other: drift(scored[other], scored[policy.name]) for other in others[policy.name]
            }
            write_scored(own.place(policy, night, seed), scored[policy.name], about, drifts)

    def _wanted(self, night: Night, seed: int) -> Iterator[Policy]:
        own = self.simulation
        for policy in POLICIES:
            is_wanted = policy.is_core or seed == own.seeds[0]
            one = policy.generation(night, self.nights[0], seed)
            if is_wanted and one.is_done(own.trainings):
                yield policy

    def _pass(self, policy: Policy, night: Night, seed: int) -> Scored:
        own, first = self.simulation, self.nights[0]
        events = self._scored(policy.built(night, first), night)
        model = policy.generation(night, first, seed).checkpoint(own.trainings).build()
        cut_s = policy.cut_s(night, first)
        gap_s = self._gap_s(policy, night)
        return score_day(model, events, own.recipe, cut_s, policy.states, own.slates, silent, gap_s)

    def _gap_s(self, policy: Policy, night: Night) -> int:
        """What the artifact of the policy's build holds."""
        if policy.states != "folded" or not policy.rebuild_days:
            return 0
        built = policy.built(night, self.nights[0])
        events, recipe = self._scored(built, night), self.simulation.recipe
        return request_gap_s(events, recipe, built.cut_s, policy.rebuild_days)

    def _make_scored(self, built: Night, night: Night) -> Events:
        events = scored_events(self.log, built, night.cut_s, self.simulation.recipe)
        require_same_values(trained_events(self.log, built, self.simulation.recipe), events)
        return events
