"""What serving a model costs: bytes of a user's state, and time to score a candidate in the runtime that serves it.

All models of a comparison are timed together, in turn, after all trainings: a slow moment of the machine hits all.
The costs are kept in one file beside the trainings, so that tables can be made again, elsewhere too.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from builder.experiments.bench.graph_timing import Contender, make_contender, time_in_turn
from builder.experiments.compare.plan import without_defaults
from builder.ingest.events import Events
from builder.progress import Progress
from builder.provenance import describe_machine
from builder.recipe.models import ModelChoice
from models.registry import build_model

logger = logging.getLogger(__name__)

CANDIDATES = 1_000
"""B: a slate as rankers see it."""
THREADS = 1
BUDGET_S = 30.0
"""For the timed rounds of all models together."""
EVENT_BYTES = 4 * 32
"""Of hidden activations for each candidate and event: what full attention holds with the default h = 32."""
FILE = "costs.json"
"""Beside the trainings of a comparison."""
TRAINING_ONLY = (
    "dropout", "embedding_dropout", "id_dropout", "id_rate", "position_lr", "nonneg", "init", "graph",
)  # fmt: skip
"""Config keys that do not change the served graph: what the search chooses among them costs nothing."""


@dataclass(frozen=True)
class Cost:
    """What serving costs.

    Attributes:
        state_bytes: of the largest record, fp32; `sizes.py` has the means over users.
        us_per_candidate: median, to score a slate of `CANDIDATES` for one user on one thread.
        p10_us: of the rounds.
        p90_us: of the rounds.
        block: candidates per run, the fastest for this model.
    """

    state_bytes: int
    us_per_candidate: float
    p10_us: float
    p90_us: float
    block: int


@dataclass(frozen=True)
class Costs:
    """Of all models of a comparison.

    Attributes:
        machine: where and when the models were timed.
        of: key of a model (`cost_key`) -> its cost.
    """

    machine: Mapping[str, str]
    of: Mapping[str, Cost]

    def find(self, model: ModelChoice, length: int | None = None) -> Cost | None:
        """Cost of a model, at its own history length if it has one; None if it was not timed."""
        return self.of.get(cost_key(model, length))


Served = tuple[ModelChoice, int | None]
"""A model, and its own history length if it has one."""


def cost_key(model: ModelChoice, length: int | None = None) -> str:
    """Name of a served graph: the model, the keys that differ from the defaults, and its own history length."""
    config = {k: v for k, v in without_defaults(model).items() if k not in TRAINING_ONLY}
    key = f"{model.name} {json.dumps(config, sort_keys=True)}"
    return key if length is None else f"{key}, L = {length}"


def kept_costs(events: Events, folder: Path) -> Costs:
    """The costs in a folder.

    Args:
        events: the log; costs of models with another schema do not count.
        folder: where the costs are kept.

    Returns:
        The costs; empty if the folder has none, or only those of another schema.
    """
    place = folder / FILE
    if not place.exists():
        return Costs({}, {})
    stored = json.loads(place.read_text())
    if stored["schema"] != events.schema.fingerprint():
        return Costs({}, {})
    return Costs(stored["machine"], {name: Cost(**cost) for name, cost in stored["of"].items()})


def time_costs(served: Sequence[Served], events: Events, folder: Path, progress: Progress) -> Costs:
    """Time models together, and keep their costs instead of earlier ones.

    Args:
        served: models of the comparison's rows, with what the search chose.
        events: the log; its catalogue and schema are the models'.
        folder: where the costs are kept.
        progress: called after every export, and when all are timed.
    """
    models = {cost_key(*one): one for one in served}
    costs = _measure(models, events, progress)
    kept = {"schema": events.schema.fingerprint(), **asdict(costs)}
    (folder / FILE).write_text(json.dumps(kept, indent=1))
    return costs


def _measure(models: Mapping[str, Served], events: Events, progress: Progress) -> Costs:
    contenders = []
    for done, (name, (model, length)) in enumerate(models.items()):
        progress(done, len(models) + 1, f"exporting {name}")
        own = events.with_length(length or events.schema.history_length)
        contenders.append(_contender(name, model, own))
    progress(len(models), len(models) + 1, "timing")
    # Here, so that the load average is that of the moment before the timed rounds.
    machine = describe_machine("")
    (all_times,) = time_in_turn(contenders, [CANDIDATES], THREADS, BUDGET_S)
    progress(len(models) + 1, len(models) + 1, f"{all_times[0].rounds} rounds")
    scale = 1e3 / CANDIDATES
    return Costs(
        {name: value for name, value in machine.items() if name != "command"},
        {
            name: Cost(
                times.state_bytes,
                times.median_ms * scale,
                times.p10_ms * scale,
                times.p90_ms * scale,
                times.block,
            )
            for name, times in zip(models, all_times, strict=True)
        },
    )


def _contender(name: str, model: ModelChoice, events: Events) -> Contender:
    item_fields = torch.from_numpy(np.array(events.item_fields))
    built = build_model(model.name, events.schema, item_fields, model.config).eval()
    return make_contender(name, built, events.schema, EVENT_BYTES * events.schema.history_length)
