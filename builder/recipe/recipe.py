"""A recipe: everything that decides a build, read from TOML into frozen dataclasses.

Unknown keys are rejected, and all problems are listed at once. The docstring under each key is its documentation.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from builder.errors import RecipeError
from builder.recipe.audit import AuditRule, audit_problems
from builder.recipe.calibration import CalibrationRule
from builder.recipe.data import Data, data_problems
from builder.recipe.gate import GateRule
from builder.recipe.include import with_included
from builder.recipe.language import LanguageRule
from builder.recipe.limits import NOT_A_KEY, Interval, OpenShare, Share
from builder.recipe.models import ModelChoice, SearchRule, Sweep, Variant, with_llm_dim
from builder.recipe.negatives import NegativeRule
from builder.recipe.sampling import SamplingRule
from models.contract.generation import MODEL_NAME, MODEL_NAME_RULE


@dataclass(frozen=True)
class SplitRule:
    """How targets are split into train, validate and test: by time, by user or by event.

    A split by time is given as days since the first event (all three keys), or as shares of the targets. Two shares of
    users, or two shares of events, replace the split by time.
    """

    train_from_day: Annotated[float, Interval(ge=0)] | None = None
    """Days since the first event at which the training part starts."""
    validate_from_day: Annotated[float, Interval(ge=0)] | None = None
    """Days since the first event at which the validation part starts."""
    test_from_day: Annotated[float, Interval(ge=0)] | None = None
    """Days since the first event at which the test part starts."""
    train_from: Share = 0.0
    """Share of the targets, by time, before the training part."""
    validate_from: Share = 0.8
    """Share of the targets, by time, before the validation part."""
    test_from: Share = 0.9
    """Share of the targets, by time, before the test part."""
    validate_users: OpenShare | None = None
    """Share of the users whose targets, at all times, are for validation. A hash of the user's id decides."""
    test_users: OpenShare | None = None
    """Share of the users to test on; the others are for training. Needs `validate_users`, and no split by time."""
    validate_events: OpenShare | None = None
    """Share of the events for validation, drawn at random: a hash of the user's and the item's ids decides."""
    test_events: OpenShare | None = None
    """Share of the events to test on; the others are for training. Needs `validate_events`, and no other split."""
    last_only: bool = False
    """Only a user's last events, those at its latest time, are targets."""

    def __post_init__(self) -> None:
        days = (self.train_from_day, self.validate_from_day, self.test_from_day)
        given = [day for day in days if day is not None]
        if len(given) in (1, 2):
            raise ValueError(
                f"train_from_day, validate_from_day, test_from_day: got {days}, expected all three or none"
            )
        cuts = given or [self.train_from, self.validate_from, self.test_from]
        if not cuts[0] < cuts[1] < cuts[2]:
            raise ValueError(f"train, validate, test: got {cuts}, expected increasing values")
        _require_shares("validate_users, test_users", self.validate_users, self.test_users)
        _require_shares("validate_events, test_events", self.validate_events, self.test_events)
        if self.test_users and self.test_events:
            raise ValueError(
                "test_users, test_events: got both, expected a split by user or by event"
            )


def _require_shares(names: str, *shares: float | None) -> None:
    """Raise ValueError unless both shares are given and leave something to train on, or both are unset."""
    if sum(share is not None for share in shares) == 1:
        raise ValueError(f"{names}: got {shares}, expected both or none")
    if sum(share or 0.0 for share in shares) >= 1:
        raise ValueError(f"{names}: got {shares}, expected a sum below 1")


LATER_KEYS = {
    "split": ("validate_users", "test_users", "validate_events", "test_events", "last_only"),
    "train": ("share", "max_epochs", "weight_decay", "warm_start"),
    "data": (
        "negative_to",
        "candidate_fields",
        "pools",
        "drop_repeats",
        "time_format",
        "time_zone",
        "filter",
        "nulls",
        "csv",
        "fields",
        "event_kinds",
        "cancel_returns",
    ),
    "data.columns": ("item_text", "quantity", "weight"),
    "negatives": ("own_past", "window_hours"),
}
"""Keys that were added to a section later. Left out of `to_dict` where unset, so that older fingerprints stay valid."""


@dataclass(frozen=True)
class HistoryRule:
    """What a target sees of its user's past."""

    length: Annotated[int, Interval(ge=1)] = 512
    """L: number of latest events that `encode` sees."""
    recent: Annotated[int, Interval(ge=1)] = 32
    """N: number of latest events that `score` sees."""
    min_events: Annotated[int, Interval(ge=0)] = 0
    """Targets with fewer events before them are left out of every part."""


@dataclass(frozen=True)
class TrainRule:
    """How the model is fitted."""

    steps: Annotated[int, Interval(ge=1)] = 20_000
    """Largest number of optimizer steps. Training ends earlier where it stops learning: see `patience`."""
    patience: Annotated[int, Interval(ge=0)] = 8
    """Validations in a row that are not better than the best one, after which training ends. 0: only `steps` end it."""
    slates_per_step: Annotated[int, Interval(ge=1)] = 48
    """Slates (a user with its history) per step."""
    positives_per_slate: Annotated[int, Interval(ge=1)] = 8
    """Largest number of positives per slate."""
    learning_rate: Annotated[float, Interval(gt=0)] = 0.05
    """Learning rate after `warm_up`."""
    warm_up: Annotated[int, Interval(ge=0)] = 200
    """Steps in which the learning rate rises; at most a tenth of `steps`."""
    drops: Annotated[int, Interval(ge=0)] = 0
    """Times that the learning rate is lowered to 0.3 of itself where `patience` runs out, before that ends training."""
    running_mean: Annotated[float, Interval(ge=0, lt=1)] = 0.998
    """Decay of the running mean of the weights, which is what is validated and kept. 0: the weights themselves."""
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    """torch's Adagrad or Adam."""
    clip: Annotated[float, Interval(ge=0)] = 2.0
    """Largest norm of a step's gradients, in units of the running mean of earlier norms; larger ones are scaled down.
    0: none are. At high rates Adagrad needs it, or some seeds diverge in their first steps."""
    weight_decay: Annotated[float, Interval(ge=0)] = 0.0
    """Factor of each weight that is added to its gradient."""
    validate_every: Annotated[int, Interval(ge=1)] = 500
    """Steps between validations; the best validated weights are kept: by GAUC per slate, or by AUC where slates are
    too small for it."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the initial weights and of the batches."""
    threads: Annotated[int, Interval(ge=0)] = 0
    """Number of threads; 0: one per core."""
    share: OpenShare = 1.0
    """Share of the training slates that is used, drawn with the seed. A larger share contains a smaller one."""
    max_epochs: Annotated[float, Interval(gt=0)] | None = None
    """Ends the training before `steps` where every slate has been seen this often."""
    warm_start: Annotated[int, Interval(ge=0)] = 0
    """Steps of a training that goes on from the last one of this recipe's run folder: weights and optimiser move by raw
    ids. 0: every training starts anew. Where the last one does not fit, as with another width, training starts anew,
    too, for `steps` steps, and says why."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs; "auto": on a GPU if there is one. Not part of what is built."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16": products of matrices in bfloat16, on a GPU only."""


@dataclass(frozen=True)
class CacheRule:
    """How states are stored."""

    dtype: Literal["fp32", "fp16", "int8"] = "fp32"
    """Type of a record's numbers. int8 has a scale per row; ids and bit patterns are always int32."""
    follow: bool = True
    """Whether states can follow events (`absorb follow`): each user's latest events are published beside the record, 8
    bytes an event."""


@dataclass(frozen=True)
class PublishRule:
    """How records are written to the cache. Not part of what is built."""

    mode: Literal["blue_green", "rolling"] = "blue_green"
    """blue_green: new records beside the old ones, then one switch. rolling: over the old ones, without more memory."""
    wait_s: Annotated[float, Interval(ge=0)] = 60.0
    """Seconds that every running service gets: rolling, to load the new artifact before records are overwritten; then,
    in both modes, to serve the new generation. After that the command fails, and the publish stays. 0: blue_green does
    not wait."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a build, and beside it `gate`, `publish` and `path`, the file it was read from."""

    name: str
    """Name of the run folder."""
    serve_as: str
    """Model name in the cache and in requests."""
    data: Data
    model: ModelChoice
    split: SplitRule = SplitRule()
    history: HistoryRule = HistoryRule()
    negatives: NegativeRule = field(default_factory=NegativeRule)
    sampling: SamplingRule = field(default_factory=SamplingRule)
    train: TrainRule = TrainRule()
    cache: CacheRule = CacheRule()
    gate: GateRule = field(default_factory=GateRule)
    publish: PublishRule = PublishRule()
    variant: tuple[Variant, ...] = ()
    search: SearchRule = field(default_factory=SearchRule)
    sweep: tuple[Sweep, ...] = ()
    language: LanguageRule | None = None
    """Field vectors from a language model, for field models with `fre` or `fie`. Unset: no field vectors."""
    audit: AuditRule = field(default_factory=AuditRule)
    calibration: CalibrationRule = field(default_factory=CalibrationRule)
    path: Path = field(default=Path("recipe.toml"), compare=False, metadata=NOT_A_KEY)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without `gate`, `publish`, `train.device`, this machine's paths and unset `LATER_KEYS`."""
        values = asdict(self)
        del values["path"], values["gate"], values["publish"], values["train"]["device"]
        for section, keys in LATER_KEYS.items():
            table: dict[str, Any] = values
            owner: Any = self
            for name in section.split("."):
                table, owner = table[name], getattr(owner, name)
            unset = {key.name: key for key in fields(owner)}
            for key in keys:
                make = unset[key].default_factory
                if table[key] == (make() if callable(make) else unset[key].default):
                    del table[key]
        later = {
            "language": None,
            "audit": AuditRule(),
            "sampling": SamplingRule(),
            "calibration": CalibrationRule(),
        }
        for name, rule in later.items():  # unset, they are left out: older fingerprints stay valid
            if getattr(self, name) == rule:
                del values[name]
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def fingerprint(self, sections: Iterable[str]) -> str:
        """Hash of some top-level keys, 16 hex digits. A step is repeated when the hash of its keys changes."""
        values = self.to_dict()
        if not values["train"][
            "clip"
        ]:  # as trainings were before there was clipping: their fingerprints stay valid
            del values["train"]["clip"]
        chosen = {section: values[section] for section in sections if section in values}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]

    def places(self, path: str) -> list[Path]:
        """Places to look for a path of the recipe: beside the recipe, then in the current folder."""
        return list(dict.fromkeys([self.path.resolve().parent / path, Path.cwd() / path]))


def load_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: the file is missing, is not TOML, or has wrong keys; all problems are listed.
    """
    path = Path(path)
    try:
        return recipe_from(tomllib.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        shipped = sorted(
            str(file) for file in (Path(__file__).parents[1] / "recipes").glob("*.toml")
        )
        listed = f"{error.strerror}; the builder comes with these recipes: {', '.join(shipped)}"
        raise RecipeError(str(path), [listed]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            str(path), [f"file: got text that is not TOML ({error}), expected TOML"]
        ) from error


def recipe_from(values: dict[str, Any], path: Path) -> Recipe:
    """Check plain values and make a recipe of them.

    Args:
        values: the recipe as TOML gives it.
        path: the recipe's file: errors name it, and data files are looked for beside it.

    Raises:
        RecipeError: a key or a value is wrong; all problems are listed.
    """
    # Here: only reading TOML needs pydantic, and training runs where it is not installed.
    from builder.recipe.model_problems import comparison_problems, nest_models, vector_problems
    from builder.recipe.validate import config_problems, make_config

    values = with_included(values, path)
    problems = nest_models(values)
    problems += config_problems(Recipe, values)
    problems += _name_problems(values) + _split_problems(values.get("split"))
    if not problems:
        recipe = replace(make_config(Recipe, values), path=path)
        recipe = replace(recipe, model=with_llm_dim(recipe.model, recipe.language))
        problems = data_problems(recipe.data, values["data"])
        if recipe.data.has_pools and recipe.split.test_events:
            problems.append(
                "split.test_events: got a split by event, but slates with pools are whole"
            )
        problems += comparison_problems(recipe.variant, recipe.sweep, recipe.search)
        problems += vector_problems(recipe.model, recipe.variant, recipe.language)
        problems += audit_problems(recipe.audit.allow)
        if not problems:
            return recipe
    raise RecipeError(str(path), problems)


def _name_problems(values: dict[str, Any]) -> list[str]:
    """Problems with the names, which become folders and parts of cache keys."""
    return [
        f"{key}: got {values[key]!r}, expected {MODEL_NAME_RULE}"
        for key in ("name", "serve_as")
        if isinstance(values.get(key), str) and not MODEL_NAME.fullmatch(values[key])
    ]


def _split_problems(given: Any) -> list[str]:
    """Keys of a split by time beside those of a split by user or by event."""
    keys = given if isinstance(given, dict) else {}
    periods = ("train_from_day", "validate_from_day", "test_from_day")
    cuts = [key for key in (*periods, "train_from", "validate_from", "test_from") if key in keys]
    problems = []
    for kind in ("user", "event"):
        pair = (f"validate_{kind}s", f"test_{kind}s")
        if any(key in keys for key in pair):
            split = f"{' and '.join(pair)} split by {kind}"
            problems += [f"split.{key}: got a split by time, but {split}" for key in cuts]
    return problems
