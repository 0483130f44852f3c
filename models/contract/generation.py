"""The keys of the cache, and the pointers to the generations that serve. Standard library only.

    absorb:<model>:<generation>:<user id>       one user's record (models/contract/record.py)
    absorb:{control}:pointer:<model>            JSON: the generation that serves, and the one to roll back to
    absorb:{control}:models                     set of the names of all published models
    absorb:{control}:default                    name of the model that answers requests that name none
    absorb:{control}:services                   set of the names of services that have announced themselves
    absorb:{control}:service:<service>          JSON: what a running service serves (models/contract/announcement.py)
    absorb:{control}:lock:<model>               held by the builder that publishes the model

models/live/keys.py lists the keys of live events, and of what a build knew of each user.
    absorb:{control}:items                      hash: items that no build knows yet (models/live/new_items.py)

The braces put all control keys into one slot of a Redis Cluster, so that one transaction may use several of them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import GenerationError, Unquoted, shown
from models.contract.state_spec import RECORD_DTYPES, RecordDtype
from models.contract.strict_json import read_json

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""Names of models, which are parts of keys and of paths."""
MODEL_NAME_RULE = "1 to 64 of a-z 0-9 _ . -, the first a letter or digit"
"""`MODEL_NAME` in words, for errors."""
MODELS_KEY = "absorb:{control}:models"
DEFAULT_KEY = "absorb:{control}:default"
MAX_MODEL_NAME = 64
PREFERRED_MODEL = "lrea"
"""Default model, if it is published, of a cache without `DEFAULT_KEY`, to which only older builders have published."""
GENERATION_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
GENERATION_NAME_RULE = "a name such as 20261122T031500Z-0a1b2c"
ARTIFACT_ID = re.compile(r"[0-9a-f]{32}")
GENERATION_KEYS = (
    "model",
    "name",
    "artifact_id",
    "num_users",
    "as_of_s",
    "created_s",
    "dtype",
)
IN_PLACE = ("slot", "over")
MAX_MODELS = 256
"""Most models of one cache. A service reads no pointers from a longer list."""
MAX_POINTER_BYTES = 16 << 10
"""Longest pointer. The longest that a builder writes has 3 kB."""
MAX_OVER = 8
"""Most generations whose records may lie under the keys of one: a service loads the artifacts of all of them."""
MAX_USERS = 10**12


@dataclass(frozen=True)
class Overwritten:
    """A generation whose records are being overwritten in place.

    Attributes:
        name: name of the generation.
        artifact_id: the artifact that made its records; only that one may score them.
    """

    name: str
    artifact_id: str


@dataclass(frozen=True)
class Generation:
    """One published build of one model.

    Attributes:
        model: name under which the model is served.
        name: unique name that sorts by time: 20261122T031500Z-<6 hex>.
        artifact_id: content hash of the artifact that made the records; only that one may score them.
        num_users: number of records.
        as_of_s: epoch second up to which events are in the states.
        created_s: epoch second of the publish.
        dtype: dtype of the records.
        slot: the generation whose keys were overwritten in place by this one; empty if it has its own keys.
        over: while it is being written in place, the generations whose records may still be under its keys, newest
            first. Each record is scored by the artifact that made it.
    """

    model: str
    name: str
    artifact_id: str
    num_users: int
    as_of_s: int
    created_s: int
    dtype: RecordDtype
    slot: str = ""
    over: tuple[Overwritten, ...] = ()

    @property
    def place(self) -> str:
        """The part of its keys that names a generation: the overwritten one, if it was written in place."""
        return self.slot or self.name

    def key(self, user_id: str) -> str:
        """Cache key of one user's record."""
        return f"absorb:{self.model}:{self.place}:{user_id}"

    def key_pattern(self) -> str:
        """Glob that matches all keys of this generation and no others."""
        return f"absorb:{self.model}:{self.place}:*"

    def to_dict(self) -> dict[str, Any]:
        """The generation as JSON types. Empty `slot` and `over` are left out, so that older services can read it."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if value or name not in IN_PLACE}


@dataclass(frozen=True)
class Pointer:
    """The value of a model's pointer key.

    Attributes:
        current: the generation that serves.
        previous: the generation to roll back to; None if there is none.
    """

    current: Generation
    previous: Generation | None

    def to_bytes(self) -> bytes:
        """The pointer as JSON."""
        previous = None if self.previous is None else self.previous.to_dict()
        return json.dumps({"current": self.current.to_dict(), "previous": previous}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes, key: str) -> "Pointer":
        """Inverse of `to_bytes`.

        Args:
            raw: value of the pointer's key, or its first `MAX_POINTER_BYTES` + 1 bytes.
            key: names the pointer in errors.

        Raises:
            GenerationError: the bytes are not a pointer, or longer than `MAX_POINTER_BYTES`.
        """
        if len(raw) > MAX_POINTER_BYTES:
            expected = f"expected at most {MAX_POINTER_BYTES}"
            raise GenerationError(key, f"got more than {MAX_POINTER_BYTES} bytes, {expected}")
        try:
            return _read_pointer(read_json(raw))
        except ValueError as error:
            reason = shown(Unquoted(f"{type(error).__name__}: {error}"))
            raise GenerationError(key, f"cannot be read: {reason}") from error


def _read_pointer(fields: Any) -> Pointer:
    _check_keys("pointer", fields, ("current", "previous"))
    current = _read_generation(fields["current"])
    if fields["previous"] is None:
        return Pointer(current, None)
    previous = _read_generation(fields["previous"])
    if previous.model != current.model:
        got, expected = shown(previous.model), shown(current.model)
        raise ValueError(f"previous.model: got {got}, expected {expected}")
    return Pointer(current, previous)


def _read_generation(fields: Any) -> Generation:
    check_generation(fields)
    over = tuple(Overwritten(**entry) for entry in fields.get("over", []))
    return Generation(**{**fields, "over": over})


def check_generation(fields: Any) -> None:
    """Check what `Generation.to_dict` returns: before it is written, and when it was read.

    Raises:
        ValueError: a field cannot be part of a pointer; names it, with what came and what was expected.
    """
    _check_keys("generation", fields, GENERATION_KEYS, IN_PLACE)
    _check_text("model", fields["model"], MODEL_NAME, MODEL_NAME_RULE)
    _check_made(fields)
    if fields.get("slot", "") != "":
        _check_text("slot", fields["slot"], GENERATION_NAME, GENERATION_NAME_RULE)
    over = fields.get("over", [])
    if not isinstance(over, list | tuple) or len(over) > MAX_OVER:
        raise ValueError(f"over: got {shown(over)}, expected a list of at most {MAX_OVER}")
    for entry in over:
        _check_keys("over", entry, ("name", "artifact_id"))
        _check_made(entry)
    _check_number("num_users", fields["num_users"], MAX_USERS, "")
    for name in ("as_of_s", "created_s"):
        _check_number(name, fields[name], END_OF_TIME_S, ", an epoch second before the year 2100")
    if fields["dtype"] not in RECORD_DTYPES:
        raise ValueError(f"dtype: got {shown(fields['dtype'])}, expected one of {RECORD_DTYPES}")


def _check_keys(
    what: str, fields: object, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"{what}: got {shown(fields)}, expected an object")
    missing = [name for name in required if name not in fields]
    unknown = fields.keys() - {*required, *optional}
    if missing or unknown:
        got = f"without {', '.join(missing)}" if missing else shown(sorted(unknown))
        raise ValueError(f"{what}: got {got}, expected the keys {', '.join(required)}")


def _check_made(fields: Mapping[str, Any]) -> None:
    _check_text("name", fields["name"], GENERATION_NAME, GENERATION_NAME_RULE)
    _check_text("artifact_id", fields["artifact_id"], ARTIFACT_ID, "32 of 0-9 a-f")


def _check_text(name: str, value: object, pattern: re.Pattern[str], expected: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name}: got {shown(value)}, expected {expected}")


def _check_number(name: str, value: object, limit: int, expected: str) -> None:
    if type(value) is not int or not 0 <= value <= limit:  # bool is an int, and no number
        text = f"{name}: got {shown(value)}, expected a whole number from 0 to {limit}{expected}"
        raise ValueError(text)


def model_names(members: Iterable[bytes | str]) -> list[str]:
    """The members of `MODELS_KEY` that can be names of models, sorted."""
    names = (m.decode(errors="replace") if isinstance(m, bytes) else m for m in members)
    return sorted(name for name in names if MODEL_NAME.fullmatch(name))


def pointer_key(model: str) -> str:
    """Key of a model's generation pointer."""
    return f"absorb:{{control}}:pointer:{model}"


def read_default_name(raw: bytes | str) -> str | None:
    """Name of a model, from the first bytes of `DEFAULT_KEY`; None if they are no name."""
    name = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    return name if MODEL_NAME.fullmatch(name) else None


def first_choice(models: Collection[str]) -> str | None:
    """The default model where none was chosen: `PREFERRED_MODEL`, else the first by name; None if there is none."""
    return PREFERRED_MODEL if PREFERRED_MODEL in models else min(models, default=None)


def lock_key(model: str) -> str:
    """Key of the lock of the builder that publishes the model."""
    return f"absorb:{{control}}:lock:{model}"
