"""The slates of one day, scored by several generations with states of several times; a small file for each."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.dataset.parts import batch_source, part_slates
from builder.errors import StepError
from builder.evaluate.slate_evaluation import (
    Vectors,
    WholeSlates,
    choose_slates,
    evaluate_slates,
    save_vectors,
    size_groups,
)
from builder.experiments.days.states import AsOf, States, as_of, state_distance, with_states
from builder.ingest.events import Events
from builder.progress import Progress
from builder.recipe.recipe import Recipe
from models.base import CtrModel, UserState
from models.batch import Batch
from models.replay.ranks import rank_distance

Logits = dict[int, NDArray[np.float32]]
"""Number of a slate -> logits of its candidates."""
METRICS = (
    "slate_gauc",
    "auc",
    "log_loss",
    "pcoc",
    "slate_ndcg",
    "slate_recall",
    "targets",
    "positives",
)
AT_ONCE = 24
"""Slates of a batch in a log without pools."""


@dataclass(frozen=True)
class Scored:
    """A policy on a day's slates.

    Attributes:
        metrics: of `METRICS`, and seconds.
        vectors: metrics of each slate.
        logits: of each slate.
        states: of each slate's user, in the order of `logits`.
    """

    metrics: dict[str, Any]
    vectors: Vectors
    logits: Logits
    states: list[UserState]


def score_day(
    model: CtrModel,
    events: Events,
    recipe: Recipe,
    cut_s: int,
    states: States,
    count: int,
    progress: Progress,
    gap_s: int = 0,
) -> Scored:
    """Score a fixed sample of the slates of the day that is the log's test part.

    Args:
        model: of the vocabulary of `events`.
        events: the log up to the end of the day (`scored_events`).
        recipe: of the build.
        cut_s: epoch second of the build's cut: what states know, or from when they are followed.
        states: of the cut, or folded.
        count: slates of the sample.
        progress: called after every batch.
        gap_s: of folded states, as in `as_of`.
    """
    slates, source = part_slates(events, recipe, "test"), batch_source(events, recipe, "test")
    if not len(slates):
        raise StepError("simulate-days: got a day without a slate, expected at least one")
    when = as_of(events, slates, cut_s, states, gap_s)
    chosen = choose_slates(len(slates), count)
    recorder = _Recorder(model.eval())
    batches = _batches(source, slates, chosen, when, progress)
    report, vectors = evaluate_slates(recorder, recorder.watching(batches), len(events.item_fields))
    metrics = {name: report["test"].get(name) for name in METRICS}
    # Users are numbered by the events before a day's end: a hash of the raw id is the same every day.
    users = [zlib.crc32(events.user_ids[user].encode()) >> 1 for user in vectors["user"]]
    kept = ("slate", "gauc", "ndcg", "recall", "log_loss", "targets", "positives", "won", "lost")
    vectors = {name: vectors[name] for name in kept} | {"user": np.array(users)}
    return Scored(metrics, vectors, recorder.logits, recorder.states)


class _Recorder:
    """A model's logits, and a copy of them and of the states."""

    def __init__(self, model: CtrModel) -> None:
        self._model, self._slate = model, np.zeros(0, np.int64)
        self.logits: Logits = {}
        self.states: list[UserState] = []

    def watching(self, batches: Iterator[WholeSlates]) -> Iterator[WholeSlates]:
        """The batches, one after another."""
        for whole in batches:
            self._slate = whole.slate
            yield whole

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Encode and score, as the cache and the service do."""
        state = self._model.encode(batch.user)
        logits: Tensor = self._model.score(state, batch.context, batch.slate)
        for row, number in enumerate(self._slate):
            self.logits[int(number)] = logits[row][batch.mask[row]].float().numpy()
        self.states.append(state)
        return logits.clone()


def _batches(
    source: BatchSource,
    slates: Slates,
    chosen: NDArray[np.int64],
    when: AsOf,
    progress: Progress,
) -> Iterator[WholeSlates]:
    if source.has_pools:
        groups = list(size_groups(source.pool_sizes(slates.at(chosen))))
    else:
        groups = np.array_split(np.arange(len(chosen)), -(-len(chosen) // AT_ONCE))
    for done, group in enumerate(groups, 1):
        own = chosen[group]
        if source.has_pools:
            batch, targets = source.whole(slates, own)
        else:
            batch, targets = source.batch(slates, own, np.random.default_rng([1, done]))
        moved = with_states(source, batch, slates.at(own), AsOf(when.before[own], when.now_s[own]))
        yield WholeSlates(moved, own, targets.user)
        progress(done, len(groups))


def drift(one: Scored, other: Scored) -> dict[str, float]:
    """How far two generations are apart on the same slates.

    Returns:
        rank_distance (mean over slates, `models/replay/ranks.py`), log_odds (mean over candidates of the absolute
        difference), state (mean over slates of `state_distance`), pcoc (of `other` over that of `one`).

    Raises:
        StepError: they were scored on different slates.
    """
    if one.logits.keys() != other.logits.keys():
        raise StepError("simulate-days: got scores of different slates, expected the same")
    distances = [rank_distance(one.logits[slate], other.logits[slate]) for slate in one.logits]
    apart = np.concatenate([np.abs(one.logits[s] - other.logits[s]) for s in one.logits])
    states = [state_distance(a, b) for a, b in zip(one.states, other.states, strict=True)]
    return {
        "rank_distance": float(np.mean(distances)),
        "log_odds": float(apart.mean()),
        "state": float(np.concatenate(states).mean()),
        "pcoc": other.metrics["pcoc"] / one.metrics["pcoc"],
    }


def write_scored(
    place: Path, scored: Scored, about: Mapping[str, Any], drifts: Mapping[str, Any]
) -> None:
    """Write a JSON and its vectors beside it; the JSON last, so that it is complete or not there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    save_vectors(scored.vectors, place.with_suffix(".npz"))
    staged = place.with_suffix(".new")
    staged.write_text(json.dumps({**about, **scored.metrics, "drift": dict(drifts)}, indent=1))
    staged.replace(place)


def read_scored(folder: Path) -> Sequence[dict[str, Any]]:
    """All finished JSON files of a folder, each with the path of its vectors as `vectors`."""
    files = sorted(folder.glob("seed-*/*.json"))
    return [{**json.loads(file.read_text()), "vectors": file.with_suffix(".npz")} for file in files]
