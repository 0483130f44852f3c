"""JSON that decides scores, in files and in the cache: a key that comes twice is an error, not the last one's value."""

import json
from typing import Any

from models.contract.errors import shown


def read_json(raw: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the bytes are not JSON, nest too deeply, or an object has a key twice.
    """
    try:
        return json.loads(raw, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("JSON: got lists or objects nested too deeply") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"JSON: got the key {shown(twice)} twice, expected each once")
    return fields
