"""Captured requests (`slow.jsonl`) as users and candidates, so that they can be scored again without HTTP.

One JSON object a line, as `ABSORB_SLOW_DIR` and `GET /v1/slow` give them. Bodies of `POST /v1/score` and
`POST /v1/compare` are read; other routes (V2, gRPC) have other bodies, and are counted as left out.
"""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUTES = ("/v1/score", "/v1/compare")
Json = dict[str, Any]


@dataclass(frozen=True)
class Captured:
    """One captured request.

    Attributes:
        request_id: its name.
        user_id: raw id.
        candidates: raw item ids.
        fields: candidate field -> raw value of each candidate, None where it has none.
        recent: raw ids of the latest items; None: those of the user's record.
        context: context field -> value.
        answers: the recorded answer of each model: one for /v1/score, several for /v1/compare; empty if it failed.
    """

    request_id: str
    user_id: str
    candidates: list[str]
    fields: Mapping[str, Sequence[str | None]]
    recent: list[str] | None
    context: Mapping[str, object]
    answers: tuple[Json, ...]


def read_captured(path: Path) -> tuple[list[Captured], int]:
    """Requests of a file, and the number of lines that are left out: other routes, no body, not written whole.

    Raises:
        OSError: the file cannot be read.
        ValueError: no line is a captured request.
    """
    lines = path.read_bytes().splitlines()
    found = [request for line in lines if (request := _request(line)) is not None]
    if lines and not found:
        raise ValueError(
            f"{path}: got {len(lines)} lines and none of them a request to {' or '.join(ROUTES)}, expected some"
        )
    return found, len(lines) - len(found)


def _request(line: bytes) -> Captured | None:
    record = _parsed(line)
    if not str(record.get("path", "")).startswith(ROUTES):
        return None
    raw = b64decode(record["body_base64"]) if "body_base64" in record else record.get("body", "")
    body, answer = _parsed(raw), _parsed(record.get("answer", ""))
    try:
        items = [item if isinstance(item, dict) else {"id": item} for item in body["candidates"]]
        names = list(dict.fromkeys(name for item in items for name in item.get("fields") or {}))
        fields = {
            name: [_text((item.get("fields") or {}).get(name)) for item in items] for name in names
        }
        recent = body.get("recent")
        return Captured(
            str(record.get("request_id", "")),
            str(body["user_id"]),
            [str(item["id"]) for item in items],
            fields,
            None if recent is None else [str(item) for item in recent],
            dict(body.get("context") or {}),
            tuple(each for each in answer.get("models", [answer]) if each.get("generation")),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _parsed(raw: bytes | str) -> Json:
    """A JSON object; empty for what is none."""
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def recorded_scores(request: Captured, answer: Json) -> dict[int, float]:
    """Place of a candidate -> its recorded score; empty if the answer has none.

    Ranked answers name items: an item that stands twice in the slate is left out.
    """
    if answer.get("scores"):
        return dict(enumerate(answer["scores"]))
    places: dict[str, list[int]] = {}
    for place, item in enumerate(request.candidates):
        places.setdefault(item, []).append(place)
    ranked = [
        (places.get(entry["item"], []), entry["score"]) for entry in answer.get("ranked") or ()
    ]
    return {at[0]: score for at, score in ranked if len(at) == 1}
