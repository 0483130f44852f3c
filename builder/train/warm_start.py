"""A training that goes on from an earlier one: weights, optimiser and clipping, moved by raw ids.

A vocabulary changes from night to night, and with it the row of a value in every embedding. A row that both nights know
moves with its value; the row of a new value is what the model starts with, and its optimiser state is zero; the rows of
values that are gone are dropped. Everything else keeps its name and must keep its shape.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from builder.errors import StepError
from builder.ingest.events import Events
from builder.ingest.split import Split
from builder.recipe.recipe import Recipe
from builder.train.clipping import Clipping
from builder.train.optimiser import RunningMean
from models.base import CtrModel
from models.blocks.fields.frame import FieldFrame
from models.blocks.frame import Frame
from models.contract.field_reader import MISSING, BooleanReader, numbers_of_names
from models.contract.schema import FIRST_KNOWN, FeatureSchema
from models.registry import make_config

ABOUT, TENSORS = "warm_start.json", "warm_start.safetensors"
OF_THE_LOG = ("item_fields", "vectors")
"""Buffers that the log or a language model fills: the new ones count."""
NO_VALUES = "a log ingested by an older version, without the values of its item fields"
KINDS = ("item", "user", "context", "candidate")
"""Kinds of fields, in the order of `FieldFrame.linear`."""
Rows = NDArray[np.int64]
Values = Mapping[str, list[str]]
"""Kind and name of a field, such as item/maker -> its raw values in the order of their dense ids."""


class WarmStartError(StepError):
    """An earlier training cannot be gone on with."""


@dataclass(frozen=True)
class WarmStart:
    """What an earlier training leaves to a later one: its state at the step that validated best.

    Attributes:
        about: model, config, fields, lengths, optimiser and split of the training, in JSON types.
        values: raw values of every field's ids.
        step: steps so far, those of earlier trainings that it went on from included.
        dropped: times that the learning rate was lowered.
        tensors: weights/…, mean/… (the weights that were kept), optimizer/<weight>/… and clipping/mean.
    """

    about: dict[str, Any]
    values: Values
    step: int
    dropped: int
    tensors: dict[str, Tensor] = field(repr=False)

    def digest(self) -> str:
        """Hash of everything, 16 hex digits."""
        digest = hashlib.sha256(json.dumps([self.about, self.values, self.step]).encode())
        for name in sorted(self.tensors):
            digest.update(self.tensors[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write two files to an existing folder."""
        plain = {name: value.cpu().contiguous() for name, value in self.tensors.items()}
        save_file(plain, folder / TENSORS)
        numbers = {"step": self.step, "dropped": self.dropped}
        about = {"about": self.about, "values": dict(self.values), **numbers}
        (folder / ABOUT).write_text(json.dumps(about))

    @classmethod
    def load(cls, folder: Path) -> "WarmStart":
        """Read what `save` wrote.

        Raises:
            WarmStartError: the folder holds no such files, or damaged ones.
        """
        try:
            about = json.loads((folder / ABOUT).read_text())
            return cls(**about, tensors=load_file(folder / TENSORS))
        except FileNotFoundError as error:
            expected = "expected those of a training of this recipe"
            raise WarmStartError(
                f"warm start: got no {error.filename or ABOUT}, {expected}"
            ) from error
        except Exception as error:  # safetensors has its own errors
            raise WarmStartError(
                f"warm start: {folder} cannot be read ({error}), expected a checkpoint's files"
            ) from error

    def require_fits(self, recipe: Recipe, events: Events) -> None:
        """Raise WarmStartError unless a training of `recipe` on `events` can go on from here."""
        for key, expected in describe(recipe, events).items():
            got = self.about.get(key)
            if key == "split" or got == expected:
                continue
            if isinstance(got, dict):  # the config: say only which keys differ
                got, expected = _other_keys(got, expected), _other_keys(expected, got)
            raise WarmStartError(
                f"warm start, {key}: got a checkpoint with {got!r}, expected {expected!r}"
            )
        _require_later(Split(**self.about["split"]), events.split)

    def apply(
        self,
        model: CtrModel,
        mean: RunningMean,
        optimizer: torch.optim.Optimizer,
        clipping: Clipping,
        events: Events,
    ) -> dict[str, int]:
        """Set everything to this state, rows by their raw values; return numbers of rows: kept, new and dropped.

        Raises:
            WarmStartError: a tensor has another shape for another reason than its values; nothing is changed then.
        """
        values = values_of(events)
        if values is None:
            raise WarmStartError(f"warm start: got {NO_VALUES}, expected one of this version")
        numeric = {
            f"{kind}/{name}"
            for kind, own in events.vocabulary.readers.items()
            for name, reader in own.items()
            if not isinstance(reader, BooleanReader)
        }
        move = _Move(field_tables(model, events.schema), self.values, values, numeric)
        weights = {name: self._moved(move, "weights", name, v) for name, v in _carried(model)}
        means = {name: self._moved(move, "mean", name, v) for name, v in _carried(mean.model)}
        state = self._optimizer_state(move, model, optimizer)
        if mean.model is not model:
            mean.model.load_state_dict(means, strict=False)
        model.load_state_dict(weights, strict=False)
        optimizer.load_state_dict(state)
        clipping.mean.copy_(self.tensors["clipping/mean"])
        return move.counts()

    def _moved(self, move: "_Move", group: str, name: str, fresh: Tensor) -> Tensor:
        old = self.tensors.get(f"{group}/{name}")
        if old is None:
            raise WarmStartError(f"warm start: got no weights {name!r}, expected them")
        return move(name, old.to(fresh.device), fresh)

    def _optimizer_state(
        self, move: "_Move", model: CtrModel, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        names, weights = optimiser_names(model, optimizer), dict(model.named_parameters())
        own = optimizer.state_dict()
        own["state"] = {}
        for place, name in enumerate(names):
            prefix = f"optimizer/{name}/"
            for key, old in self.tensors.items():
                if key.startswith(prefix):
                    value = old.to(weights[name].device, copy=True)
                    if old.dim():  # not the number of steps
                        value = move(name, value, torch.zeros_like(weights[name]))
                    own["state"].setdefault(place, {})[key.removeprefix(prefix)] = value
        return own


def snapshot(
    model: CtrModel,
    kept: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    clipping: Clipping,
) -> dict[str, Tensor]:
    """Copies of all tensors of a `WarmStart`; `kept` are the weights that were validated."""
    tensors = {f"weights/{name}": value for name, value in _carried(model)}
    tensors |= {f"mean/{name}": kept[name] for name, _ in _carried(model)}
    names = optimiser_names(model, optimizer)
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{names[place]}/{key}": value for key, value in state.items()}
    tensors["clipping/mean"] = clipping.mean
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def describe(recipe: Recipe, events: Events) -> dict[str, Any]:
    """What must be equal in two trainings of which one goes on from the other, and the split."""
    schema, name = events.schema, recipe.model.name
    kinds = ("item_fields", "user_fields", "context_fields", "candidate_fields")
    about = {
        "source": recipe.data.source,
        "model": name,
        "config": asdict(make_config(name, recipe.model.config)),
        **{kind: _field_names(events, kind) for kind in kinds},
        "history_length": schema.history_length,
        "recent_length": schema.recent_length,
        "optimizer": recipe.train.optimizer,
        "split": asdict(events.split),
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _field_names(events: Events, kind: str) -> list[str]:
    """Names of the fields of a kind; those of fields that are not categorical say so."""
    readers = events.vocabulary.readers.get(kind.removesuffix("_fields"), {})
    names = [known.name for known in getattr(events.schema, kind)]
    return [f"{n} ({readers[n].to_json()['kind']})" if n in readers else n for n in names]


def values_of(events: Events) -> Values | None:
    """Raw values of all fields of a log; None for a log whose items' values were not kept at ingest."""
    names = [known.name for known in events.schema.item_fields]
    if not all(name in events.item_values for name in names):
        return None
    found = {f"item/{name}": list(events.item_values[name]) for name in names}
    vocabulary = events.vocabulary
    kinds = {
        "user": vocabulary.user,
        "context": vocabulary.context,
        "candidate": vocabulary.candidate,
    }
    for kind, fields in kinds.items():
        found |= {f"{kind}/{name}": list(values) for name, values in fields.items()}
    return found


def field_tables(model: CtrModel, schema: FeatureSchema) -> dict[str, str]:
    """Name of each weight whose rows are ids of a field -> kind and name of the field."""
    found: dict[str, str] = {}
    for prefix, part in model.named_modules():
        if isinstance(part, Frame | FieldFrame):
            pairs = _frame_tables(part, schema)
            found |= {f"{prefix}.{name}.weight".lstrip("."): key for name, key in pairs}
    return found


def _frame_tables(part: Frame | FieldFrame, schema: FeatureSchema) -> Iterator[tuple[str, str]]:
    keys = {
        kind: [f"{kind}/{known.name}" for known in getattr(schema, f"{kind}_fields")]
        for kind in KINDS
    }
    if isinstance(part, FieldFrame):
        names = ("items", "profile", "context", "candidate")
        groups = {name: keys[kind] for name, kind in zip(names, KINDS, strict=True)}
        if len(part.linear):
            groups |= {f"linear.{place}": keys[kind] for place, kind in enumerate(KINDS)}
    else:
        layout = part.items.layout
        groups = {
            "items": [keys["item"][column] for column in layout.columns],
            "profile": keys["user"],
            "context": keys["context"],
            "described": [keys["item"][column] for column in layout.unmatched] + keys["candidate"],
        }
        yield "bias", keys["item"][0]
    for name, own in groups.items():
        for place, key in enumerate(own):
            yield f"{name}.tables.{place}", key


def optimiser_names(model: CtrModel, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimiser's weights, in the order of its state."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]


class _Move:
    """Moves the rows of tables from one log's ids to another's.

    Args:
        tables: weight -> its field.
        old: values of the earlier log.
        new: values of this log.
        numeric: keys of the values that are names of buckets.
    """

    def __init__(
        self, tables: Mapping[str, str], old: Values, new: Values, numeric: Collection[str]
    ) -> None:
        self._tables, self._old, self._new = tables, old, new
        self._places = {
            key: (_nearest if key in numeric else _shared)(old.get(key, []), new[key])
            for key in set(tables.values())
        }

    def __call__(self, name: str, old: Tensor, fresh: Tensor) -> Tensor:
        """The tensor of a weight, or of its optimiser: `fresh` with all rows that both know taken from `old`."""
        key = self._tables.get(name)
        shape, expected = old.shape, fresh.shape
        if key is not None:
            shape, expected = shape[1:], expected[1:]
        if shape != expected or (key is not None and len(old) != self._rows(self._old, key)):
            raise WarmStartError(
                f"warm start, {name}: got a tensor of shape {list(old.shape)}, expected {list(fresh.shape)}"
            )
        if key is None:
            return old.clone()
        from_row, to_row = (torch.from_numpy(rows).to(old.device) for rows in self._places[key])
        moved = fresh.detach().clone()
        moved[:FIRST_KNOWN] = old[:FIRST_KNOWN]
        moved[to_row] = old[from_row]
        return moved

    def counts(self) -> dict[str, int]:
        """Numbers of ids of all fields together: kept, new and dropped."""
        kept = sum(len(to_row) for _, to_row in self._places.values())
        new = sum(len(self._new[key]) for key in self._places)
        old = sum(len(self._old.get(key, [])) for key in self._places)
        used = sum(len(np.unique(from_row)) for from_row, _ in self._places.values())
        return {"kept": kept, "new": new - kept, "dropped": old - used}

    @staticmethod
    def _rows(values: Values, key: str) -> int:
        return len(values.get(key, [])) + FIRST_KNOWN


def _shared(old: list[str], new: list[str]) -> tuple[Rows, Rows]:
    """Ids in `old` and in `new` of the values that both have."""
    place = {value: row for row, value in enumerate(old, FIRST_KNOWN)}
    both = [(place[value], row) for row, value in enumerate(new, FIRST_KNOWN) if value in place]
    pairs = np.array(both, np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _nearest(old: list[str], new: list[str]) -> tuple[Rows, Rows]:
    """Ids in `new` of all buckets, and in `old` of the bucket that held the smallest number of each.

    A bucket's name is its smallest number, so that edges that move by a night's events keep their neighbours' rows.
    """
    has_missing = [MISSING in values for values in (old, new)]
    floors, wanted = (numbers_of_names([v for v in values if v]) for values in (old, new))
    place = np.maximum(np.searchsorted(floors, wanted, side="right") - 1, 0)
    from_row = place + FIRST_KNOWN + has_missing[0]
    to_row = np.arange(len(wanted)) + FIRST_KNOWN + has_missing[1]
    if all(has_missing):
        from_row, to_row = np.append(from_row, FIRST_KNOWN), np.append(to_row, FIRST_KNOWN)
    return from_row.astype(np.int64), to_row.astype(np.int64)


def _carried(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Weights and statistics that a later training takes over."""
    return [
        (name, value)
        for name, value in model.state_dict().items()
        if name.rsplit(".", 1)[-1] not in OF_THE_LOG
    ]


def _other_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key not in other or other[key] != value}


def _require_later(old: Split, new: Split) -> None:
    """Raise WarmStartError if the earlier training may have seen targets of the new validation or test part."""
    rules = ("validate_users", "test_users", "validate_events", "test_events", "last_only")
    got, expected = ({rule: getattr(split, rule) for rule in rules} for split in (old, new))
    if got != expected:
        raise WarmStartError(
            f"warm start, split: got a training on {got}, expected {expected}: it may have seen today's tests"
        )
    is_by_time = not (new.test_users or new.test_events)
    if is_by_time and old.validate_from_s > new.validate_from_s:
        raise WarmStartError(
            f"warm start, split: got a training on targets before {old.validate_from_s}, expected none at or after "
            f"{new.validate_from_s}, which are now for validation and tests"
        )
