"""The keys of the cache, and the pointers to the generations that serve. Standard library only.

    absorb:<model>:<generation>:<user id>       one user's record (models/contract/record.py)
    absorb:{control}:pointer:<model>            JSON: the generation that serves, and the one to roll back to
    absorb:{control}:models                     set of the names of all published models
    absorb:{control}:services                   set of the names of services that have announced themselves
    absorb:{control}:service:<service>          JSON: the generation of each model that a running service has loaded
    absorb:{control}:lock:<model>               held by the builder that publishes the model

The braces put all control keys into one slot of a Redis Cluster, so that one transaction may use several of them.
"""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from models.contract.errors import GenerationError
from models.contract.state_spec import RECORD_DTYPES, RecordDtype

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""Names of models, which are parts of keys and of paths."""
MODEL_NAME_RULE = "1 to 64 of a-z 0-9 _ . -, the first a letter or digit"
"""`MODEL_NAME` in words, for errors."""
MODELS_KEY = "absorb:{control}:models"
SERVICES_KEY = "absorb:{control}:services"
IN_PLACE = ("slot", "over")


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

        Raises:
            GenerationError: the bytes are not a pointer.
        """
        try:
            fields = json.loads(raw)
            current, previous = fields["current"], fields["previous"]
            return cls(
                _read_generation(current), None if previous is None else _read_generation(previous)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationError(key, f"cannot be read: {error!r}") from error


def _read_generation(fields: dict[str, Any]) -> Generation:
    over = tuple(Overwritten(**entry) for entry in fields.get("over", ()))
    generation = Generation(**{**fields, "over": over})
    texts = {name: fields.get(name, "") for name in ("model", "name", "artifact_id", "slot")}
    for name, value in [
        *texts.items(),
        *(pair for entry in over for pair in asdict(entry).items()),
    ]:
        if not isinstance(value, str):
            raise TypeError(f"{name}: got {value!r}, expected a string")
    for name in ("num_users", "as_of_s", "created_s"):
        if type(fields[name]) is not int:
            raise TypeError(f"{name}: got {fields[name]!r}, expected an integer")
    if generation.dtype not in RECORD_DTYPES:
        raise ValueError(f"dtype: got {generation.dtype!r}, expected one of {RECORD_DTYPES}")
    return generation


def pointer_key(model: str) -> str:
    """Key of a model's generation pointer."""
    return f"absorb:{{control}}:pointer:{model}"


def heartbeat_key(service: str) -> str:
    """Key under which a running service announces the generations that it has loaded."""
    return f"absorb:{{control}}:service:{service}"


def read_presence(raw: bytes) -> dict[str, str | None]:
    """Model -> loaded generation, from the value of a `heartbeat_key`; empty if it cannot be read."""
    try:
        loaded = json.loads(raw)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def lock_key(model: str) -> str:
    """Key of the lock of the builder that publishes the model."""
    return f"absorb:{{control}}:lock:{model}"
