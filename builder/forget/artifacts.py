"""Artifacts that a forgotten user may be in: by weights trained on the user, and by files that hold the raw id.

Neither can be removed from an artifact, whose files are used as hashed. A build that ingests after the tombstone is
trained without the user; the artifact is gone when no generation names it and its folder is removed.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.forget.report import Line, Report
from models.contract.artifact import MANIFEST, VOCABULARY
from models.contract.example_slate import EXAMPLE_SLATE
from models.contract.generation import ARTIFACT_ID

LOG_KEYS = ("events", "items", "users", "path", "pools")
"""Keys of a recipe's `data` that name files of the shop."""
NOT_USERS = {VOCABULARY: ["items"], EXAMPLE_SLATE: ["candidates"]}
"""Keys of a file whose values are ids of items."""
TENSORS = (".onnx", ".safetensors")
"""Files that hold numbers and names of tensors, and no text of a log."""


def note_artifacts(root: Path, user_id: str, report: Report) -> None:
    """Note each artifact that was made before the user was forgotten or holds the raw id, and the logs of all."""
    logs: dict[str, None] = {}
    for manifest in sorted(root.glob(f"*/{MANIFEST}")):
        if not ARTIFACT_ID.fullmatch(manifest.parent.name):
            continue
        made_s = int(manifest.stat().st_mtime)
        values = _read(manifest)
        recipe = values.get("recipe", {})
        again = f"retrain: absorb build RECIPE --from ingest, recipe {recipe.get('name', '?')!r}"
        where = f"artifact {manifest.parent.name}, made {_day(made_s)}"
        if made_s <= report.forgotten_s:
            report.left.append(Line(where, f"weights that may be trained on the user; {again}"))
        for name in _files_with(manifest.parent, user_id):
            what = f"{name} holds the raw id as a value of a field; {again}, and remove its folder"
            report.left.append(Line(where, what))
        logs.update(dict.fromkeys(_logs(recipe.get("data", {}))))
    for log in logs:
        report.left.append(Line(log, "raw log of the shop: read only, ingested without the user"))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _day(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M")


def _files_with(folder: Path, user_id: str) -> Iterator[str]:
    """Names of an artifact's files that hold the id as a whole value; not as an item of the catalogue."""
    for path in sorted(folder.iterdir()):
        if path.suffix in TENSORS or not path.is_file():
            continue
        values = _read(path)
        for key in NOT_USERS.get(path.name, ()):
            values.pop(key, None)
        if user_id in _values(values):
            yield path.name


def _values(value: Any) -> Iterator[str]:
    """Every text in JSON values, keys included."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from _values(part)
    elif isinstance(value, list):
        for part in value:
            yield from _values(part)
    elif isinstance(value, str):
        yield value


def _logs(data: dict[str, Any]) -> Iterator[str]:
    """Files and folders that a recipe reads, as it names them."""
    for name in LOG_KEYS:
        value = data.get(name)
        if isinstance(value, dict):
            value = value.get("file")
        if isinstance(value, str):
            yield value
