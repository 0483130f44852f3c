"""`python -m service.tools.replay FILE --url http://…`: ask captured slow requests again; print the times then and now.

FILE holds JSON lines as `ABSORB_SLOW_DIR` or `GET /v1/slow` give them. Scores agree where none differs by more than
1e-6. They are compared where both answers say that they come from the same generations and the same kinds of state (V2:
the outputs `generation` and `state_source`); others may score otherwise, so they are named. Exit code 1: a request
failed that had succeeded, or scores that are compared differ.
"""

import argparse
import http.client
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.table import Table

TOLERANCE = 1e-6
TIMEOUT_S = 30.0

KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("method", "path", "request_id", "route"), str),
    "status": int,
    "took_ms": (int, float),
}
"""What every captured request has."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Replayed:
    """One request, then and now.

    Attributes:
        then_from: generation and state source of each user and model in the answer that was captured.
        now_from: the same of the answer to the replay.
        agrees: whether the scores are the same; None where there are none to compare.
    """

    record: Json
    status: int
    took_ms: float
    then_from: list[str]
    now_from: list[str]
    agrees: bool | None

    @property
    def is_bad(self) -> bool:
        """Whether something is wrong that another generation or state does not explain."""
        return self.status >= 400 > self.record["status"] or self.agrees is False


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        records = list(read_records(options.file))
        replayed = list(replay(records, options.url, options.key))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"replay: {error}\n")
        return 2
    show(replayed, len(records), Console())
    return int(any(one.is_bad for one in replayed))


def read_records(path: Path) -> Iterator[Json]:
    """Every line of a capture.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is none; says which.
    """
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        record = _object(line)
        wrong = [name for name, kind in KEYS.items() if not isinstance(record.get(name), kind)]
        if wrong:
            raise ValueError(
                f"{path}:{number}: not a captured request: {', '.join(wrong)} missing or of another type"
            )
        yield record


def body_of(record: Json) -> bytes | None:
    """The request's body; None where it was too long to be kept."""
    if "body_base64" in record:
        return b64decode(record["body_base64"])
    return record["body"].encode() if "body" in record else None


def replay(records: Sequence[Json], url: str, key: str | None) -> Iterator[Replayed]:
    """Ask one after another, over one connection.

    Raises:
        OSError: the service does not answer.
        ValueError: the URL is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError(f"--url: got {url!r}, expected http://host:port")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    for record in records:
        body = body_of(record)
        if body is not None:
            yield _ask(connection, record, body, key)
    connection.close()


def _ask(
    connection: http.client.HTTPConnection, record: Json, body: bytes, key: str | None
) -> Replayed:
    headers = {**record.get("headers", {}), "x-request-id": f"replay-{record['request_id']}"[:128]}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    path = record["path"] + (f"?{record['query']}" if record.get("query") else "")
    began = perf_counter()
    connection.request(record["method"], path, body, headers)
    response = connection.getresponse()
    answer = response.read()
    took_ms = 1000 * (perf_counter() - began)
    now = _object(answer)
    then = _object(record.get("answer", "").encode())
    then_from, now_from = made_from(then), made_from(now)
    agrees = agree(then, now) if then_from and then_from == now_from else None
    return Replayed(record, response.status, took_ms, then_from, now_from, agrees)


def _object(raw: bytes) -> Json:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def made_from(answer: Json) -> list[str]:
    """Generation and state source of each user and model of an answer; empty where it does not say."""
    if "outputs" in answer:
        told = {one["name"]: one.get("data", ()) for one in answer["outputs"]}
        pairs = zip(told.get("generation", ()), told.get("state_source", ()), strict=False)
        return [f"{generation} {source}" for generation, source in pairs]
    return [
        f"{one['generation']} {one['state']['source']}"
        for one in answer.get("models", [answer])
        if one.get("generation") and one.get("state")
    ]


def agree(then: Json, now: Json) -> bool | None:
    """Whether two answers' scores are the same; None where one has none."""
    left, right = _scores(then), _scores(now)
    if not left or not right:
        return None
    return left.keys() == right.keys() and all(
        abs(score - right[place]) <= TOLERANCE for place, score in left.items()
    )


def _scores(answer: Json) -> dict[object, float]:
    """Place or item -> score, of an answer of any of the routes."""
    if answer.get("scores"):
        return dict(enumerate(answer["scores"]))
    if answer.get("ranked"):
        return {one["item"]: one["score"] for one in answer["ranked"]}
    found: dict[object, float] = {}
    for model in answer.get("models") or ():
        found |= {(model["model"], place): score for place, score in _scores(model).items()}
    for output in answer.get("outputs") or ():
        if output.get("datatype", "").startswith("FP"):
            found |= {(output["name"], at): score for at, score in enumerate(output["data"])}
    return found


def show(replayed: Sequence[Replayed], num_records: int, console: Console) -> None:
    """Print a row for each request."""
    table = Table("request", "route", "status", "then ms", "now ms", "made from", "scores")
    words = {True: "agree", False: "differ", None: "none to compare"}
    for one in replayed:
        record = one.record
        then, now = (", ".join(made) or "unknown" for made in (one.then_from, one.now_from))
        table.add_row(
            record["request_id"],
            record["route"],
            f"{record['status']} → {one.status}",
            f"{record['took_ms']:.1f}",
            f"{one.took_ms:.1f}",
            then if now == then else f"{then} → {now}",
            words[one.agrees],
        )
    console.print(table)
    faster = sum(one.took_ms < one.record["took_ms"] for one in replayed)
    console.print(f"{len(replayed)} of {num_records} replayed, {faster} faster than then")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m service.tools.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON lines, as captured")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service")
    parser.add_argument("--key", help="API key, if the service wants one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
