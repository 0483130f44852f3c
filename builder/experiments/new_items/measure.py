"""Targets of the test days whose item is new, scored by the unknown row and by a prototype.

An item is new here if the log has no event of it before the test days. Its fields are those of the log's item table.
Prototypes come from items with events in the training days only, as in an export.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.checkpoint import Checkpoint
from builder.dataset.batches import BatchSource, Slates
from builder.dataset.parts import batch_source, part_slates
from builder.errors import StepError
from builder.evaluate.intervals import Resampled, resample
from builder.evaluate.predict import SEED
from builder.evaluate.slate_evaluation import WholeSlates, choose_slates, evaluate_slates
from builder.export.prototypes import make_prototypes, with_prototypes
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from builder.train.train import train
from models.base import CtrModel, UserState
from models.batch import Batch, Context, Slate, User
from models.contract.schema import FIRST_KNOWN, UNKNOWN

SLATES_AT_ONCE = 64
TEST_SLATES = 8192
"""Slates that are measured, a fixed sample: twice as many as a comparison's, since few of their positives are new."""
ARMS = ("unknown row", "prototype")
"""Rows by which a new item is scored."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """One training.

    Attributes:
        reports: arm -> metrics over all new targets (`overall`).
        samples: arm -> what intervals need.
        prototypes: number of prototypes.
        matched: share of the new targets by the number of fields of their prototype; 0: the unknown row.
        items: number of different new items among the targets.
    """

    reports: dict[str, dict[str, float]]
    samples: dict[str, Resampled]
    prototypes: int
    matched: dict[int, float]
    items: int


def trained(
    events: Events, recipe: Recipe, seed: int, folder: Path, progress: Progress
) -> Checkpoint:
    """The recipe's model, trained with a seed; read from `folder` if it is there."""
    place = folder / f"seed-{seed}"
    if (place / "checkpoint.json").is_file():
        return Checkpoint.load(place)
    seeded = replace(recipe, train=replace(recipe.train, seed=seed))
    checkpoint = train(events, seeded, progress, folder=folder / f"training-{seed}")
    checkpoint.save(place)
    return checkpoint


def measure(
    checkpoint: Checkpoint, events: Events, recipe: Recipe, progress: Progress = silent
) -> Outcome:
    """Score the new targets of the test days in each arm.

    Args:
        checkpoint: the trained model.
        events: the log.
        recipe: says which slates are tested.
        progress: called after each arm.

    Raises:
        StepError: the items have no fields, or no target of the test days is new.
    """
    prototypes = make_prototypes(events)
    if prototypes is None:
        raise StepError("new items: got items without fields, expected data.item_fields")
    wide = with_prototypes(checkpoint, events, prototypes)
    model, first = wide.build(), len(events.item_fields)
    is_new = new_rows(events)
    rows = np.arange(first)
    found = {row: prototypes.find(_values(events, row)) for row in np.flatnonzero(is_new).tolist()}
    by_prototype = rows.copy()
    by_prototype[list(found)] = [UNKNOWN if at is None else first + at for at in found.values()]
    maps = (np.where(is_new, UNKNOWN, rows), by_prototype)
    batches = list(_new_targets(events, recipe, is_new))
    if not batches:
        raise StepError("new items: got no new target in the test days, expected some")
    with torch.no_grad():
        states = {id(whole.batch): model.encode(whole.batch.user) for whole in batches}
    reports, samples = {}, {}
    for done, (arm, mapped) in enumerate(zip(ARMS, maps, strict=True), 1):
        arm_scores = _Arm(model, torch.from_numpy(mapped), states)
        report, vectors = evaluate_slates(arm_scores, batches, first)
        reports[arm], samples[arm] = report["test"], resample(vectors)
        progress(done, len(ARMS), arm)
    shown = np.concatenate([whole.batch.slate.items[whole.batch.mask].numpy() for whole in batches])
    sizes = np.zeros(first, np.int64)
    for row, at in found.items():
        sizes[row] = 0 if at is None else len(prototypes.named(at))
    counts = np.bincount(sizes[shown], minlength=len(prototypes.fields) + 1) / len(shown)
    return Outcome(
        reports, samples, len(prototypes), dict(enumerate(counts.tolist())), len(np.unique(shown))
    )


def new_rows(events: Events) -> NDArray[np.bool_]:
    """Rows of items without an event before the test days, [V]."""
    before = np.asarray(events.item)[np.asarray(events.ts_s) < events.split.test_from_s]
    counts = np.bincount(before, minlength=len(events.item_fields))
    is_new: NDArray[np.bool_] = counts == 0
    is_new[:FIRST_KNOWN] = False
    return is_new


@dataclass(frozen=True)
class _Arm:
    """A model that scores other rows in place of the candidates' own; histories stay as they are.

    Attributes:
        model: with prototypes.
        rows: of each catalogue row, the one that is scored.
        states: id of a batch -> the states of its users, which all arms share.
    """

    model: CtrModel
    rows: Tensor
    states: Mapping[int, UserState]

    def __call__(self, batch: Batch) -> Tensor:
        slate = Slate(self.rows[batch.slate.items], batch.slate.fields)
        return self.model.score(self.states[id(batch)], batch.context, slate)


def _values(events: Events, row: int) -> dict[str, str]:
    """The values of an item's fields, as a client sends them."""
    ids = zip(events.schema.item_fields, np.asarray(events.item_fields[row]).tolist(), strict=True)
    return {
        field.name: events.item_values[field.name][dense - FIRST_KNOWN]
        for field, dense in ids
        if dense >= FIRST_KNOWN and field.name in events.item_values
    }


def _new_targets(
    events: Events, recipe: Recipe, is_new: NDArray[np.bool_]
) -> Iterator[WholeSlates]:
    """Every slate of the test days that has a new candidate, with its new candidates only."""
    slates, source = part_slates(events, recipe, "test"), batch_source(events, recipe, "test")
    for chosen in _groups(source, slates):
        if source.has_pools:
            batch, targets = source.whole(slates, chosen)
        else:
            batch, targets = source.batch(
                slates, chosen, np.random.default_rng([SEED, *chosen[:1]])
            )
        mask: NDArray[np.bool_] = targets.mask & is_new[targets.items]
        kept = np.asarray(mask.any(1))
        if kept.any():
            yield WholeSlates(_kept(batch, mask, kept), chosen[kept], targets.user[kept])


def _groups(source: BatchSource, slates: Slates) -> Iterator[Ints]:
    """Places of the measured slates, those of about the same size together."""
    chosen = choose_slates(len(slates), TEST_SLATES)
    if source.has_pools:
        chosen = chosen[np.argsort(source.pool_sizes(slates.at(chosen)), kind="stable")]
    yield from np.array_split(chosen, -(-len(chosen) // SLATES_AT_ONCE))


def _kept(batch: Batch, mask: NDArray[np.bool_], kept: NDArray[np.bool_]) -> Batch:
    """The masked candidates of the kept slates, first in each row."""
    width = int(mask.sum(1).max())
    order = torch.from_numpy(np.argsort(~mask, axis=1, kind="stable")[kept, :width])
    at = torch.from_numpy(np.flatnonzero(kept))

    def taken(values: Tensor) -> Tensor:
        places = (
            order
            if values.ndim == order.ndim
            else order[..., None].expand(-1, -1, values.shape[-1])
        )
        return values[at].gather(1, places)

    def some(part: Any) -> Any:
        return type(part)(**{field.name: getattr(part, field.name)[at] for field in fields(part)})

    user: User = some(batch.user)
    context: Context = some(batch.context)
    slate = Slate(taken(batch.slate.items), taken(batch.slate.fields))
    is_there = taken(torch.from_numpy(mask))
    return Batch.unweighted(user, context, slate, taken(batch.label), is_there)
