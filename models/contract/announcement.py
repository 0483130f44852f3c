"""What a running service announces in the cache, under `heartbeat_key`. Builders read it. Standard library only.

    {"lrea": "20261122T031500Z-0a1b2c", "din": null, "": {"unloaded": ["sim"], "problems": {"din": "…"}}}

Builders of an earlier version read the models and find no model of an empty name.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from models.contract.errors import MAX_ECHOED
from models.contract.generation import MODEL_NAME

SERVICES_KEY = "absorb:{control}:services"
NOTES = ""
"""Key of all that is not a model: no model has an empty name."""
MAX_ANNOUNCEMENT_BYTES = 256 << 10
"""Longest announcement: 256 models, each with a name and a problem."""


@dataclass(frozen=True)
class Announcement:
    """The state of one running service.

    Attributes:
        loaded: published model -> name of the generation that serves it; None: none yet.
        unloaded: published models that the service was told to unload. It serves them again after a restart.
        problems: model -> why the published generation does not serve.
        default: model that answers requests that name none; None: there is none.
        has_notes: whether it lists unloaded models, as services of version 0.2 and earlier do not.
    """

    loaded: Mapping[str, str | None]
    unloaded: Collection[str] = ()
    problems: Mapping[str, str] | None = None
    default: str | None = None
    has_notes: bool = True

    def to_bytes(self) -> bytes:
        """The announcement as JSON; problems are shortened."""
        problems = {model: text[:MAX_ECHOED] for model, text in (self.problems or {}).items()}
        unloaded = sorted(self.unloaded)
        notes = {"unloaded": unloaded, "problems": problems, "default": self.default}
        return json.dumps({**self.loaded, NOTES: notes}).encode()

    def why_not(self, model: str, generation: str) -> str | None:
        """Why the service does not serve this generation, in words.

        None: it serves it, or was told to unload the model, or is too old to say whether it follows the model.
        """
        if model in self.unloaded or self.loaded.get(model) == generation:
            return None
        if model not in self.loaded:
            return "has not seen it yet" if self.has_notes else None
        if self.problems and (problem := self.problems.get(model)):
            return problem
        serving = self.loaded[model]
        return f"serves {serving}" if serving else "has loaded no generation of it yet"


def heartbeat_key(service: str) -> str:
    """Key under which a running service announces itself."""
    return f"absorb:{{control}}:service:{service}"


def read_announcement(raw: bytes) -> Announcement:
    """Inverse of `Announcement.to_bytes`; what cannot be read is left out."""
    try:
        fields = json.loads(raw) if len(raw) <= MAX_ANNOUNCEMENT_BYTES else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return Announcement({}, has_notes=False)
    notes = fields.pop(NOTES, None)
    loaded = {
        model: name
        for model, name in fields.items()
        if MODEL_NAME.fullmatch(model) and (name is None or isinstance(name, str))
    }
    if not isinstance(notes, dict):
        return Announcement(loaded, has_notes=False)
    default = notes.get("default")
    return Announcement(
        loaded,
        _texts(notes.get("unloaded")),
        _problems(notes.get("problems")),
        default if isinstance(default, str) else None,
    )


def _texts(values: Any) -> tuple[str, ...]:
    found = values if isinstance(values, list) else []
    return tuple(value for value in found if isinstance(value, str))


def _problems(values: Any) -> dict[str, str]:
    found = values if isinstance(values, dict) else {}
    return {model: text for model, text in found.items() if isinstance(text, str)}
