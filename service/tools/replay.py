"""`absorb replay FILE`: send captured slow requests to a service again, and compare times and scores.

FILE holds JSON lines, as `ABSORB_SLOW_DIR` or `GET /v1/slow` give them. Scores agree if none differs by more than 1e-6.
They are compared only if both answers name the same generations and state sources (V2: the outputs `generation` and
`state_source`); otherwise the scores are allowed to differ, and both are shown.

`--between A B` sends nothing: two generations of the cache, or artifacts, score the requests here
(`replay_between.py`).
"""

import logging
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from models.contract.errors import AbsorbError
from models.replay.captured import read_captured
from service.settings import read_settings

log = logging.getLogger(__name__)
TOLERANCE = 1e-6
TIMEOUT_S = 30.0
NOT_BETWEEN = ("", "")

KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("method", "path", "request_id", "route"), str),
    "status": int,
    "took_ms": (int, float),
}
"""Fields of every captured request, with their types."""

EXIT_CODES = (
    "Exit codes: 0 all is well; 1 a request failed that had succeeded, compared scores differ, or rankings differ by "
    "more than --max-distance; 2 the file, the URL or an argument is wrong, or the service or cache does not answer."
)
Json = dict[str, Any]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Replayed:
    """One captured request and its replay.

    Attributes:
        record: the captured request.
        status: HTTP status of the replay.
        took_ms: time of the replay.
        then_from: generation and state source of each user and model, in the captured answer.
        now_from: the same, in the answer to the replay.
        agrees: whether the scores are the same; None if they cannot be compared.
    """

    record: Json
    status: int
    took_ms: float
    then_from: list[str]
    now_from: list[str]
    agrees: bool | None

    @property
    def is_bad(self) -> bool:
        """Whether the replay is worse, and neither another generation nor another state explains it."""
        return self.status >= 400 > self.record["status"] or self.agrees is False


@app.command(epilog=EXIT_CODES)
def main(
    file: Annotated[Path, typer.Argument(help="captured requests, as JSON lines")],
    url: Annotated[str, typer.Option(help="address of the service")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(help="API key, if the service needs one")] = None,
    between: Annotated[
        tuple[str, str],
        typer.Option(
            help="score with these two here, and send nothing: current, previous, a generation, an artifact's id"
        ),
    ] = NOT_BETWEEN,
    model: Annotated[
        str | None, typer.Option(help="with --between: published model; default: the service's")
    ] = None,
    max_distance: Annotated[
        float, typer.Option(min=0, max=1, help="with --between: largest mean rank distance")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="with --between: print JSON, no table")
    ] = False,
) -> None:
    """Send captured slow requests to a service again, one after another; compare times and scores.

    With --between, two generations or artifacts score them in this process: how do scores and rankings differ, and are
    recorded scores those of the generation that made them? The cache and the artifacts are those of the service's
    settings.

    Example: absorb replay var/slow/slow.jsonl --between previous current
    """
    if between != NOT_BETWEEN:
        raise typer.Exit(_between(file, between, model, max_distance, as_json))
    try:
        records = list(read_records(file))
        replayed = list(replay(records, url, key))
    except (OSError, ValueError, httpx.HTTPError) as error:
        typer.echo(f"replay: {error}", err=True)
        raise typer.Exit(2) from error
    show(replayed, len(records), Console())
    raise typer.Exit(int(any(request.is_bad for request in replayed)))


def _between(
    file: Path, names: tuple[str, str], model: str | None, max_distance: float, as_json: bool
) -> int:
    """Exit code of `--between`."""
    from service.tools.replay_between import replay_between, show_between  # the engines
    from service.tools.replay_sides import open_sides

    try:
        requests, left_out = read_captured(file)
        with open_sides(read_settings(), model, names) as (a, b):
            found = replay_between(requests, left_out, a, b)
    except (OSError, ValueError, AbsorbError) as error:
        typer.echo(f"replay: {error}", err=True)
        return 2
    if as_json:
        typer.echo(orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        show_between(found, Console())
    return int(found.mean_distance > max_distance or found.parity.differ > 0)


def read_records(path: Path) -> Iterator[Json]:
    """Every captured request of a file. Lines that were not written whole are left out: they are no JSON.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a captured request; names the line.
    """
    records = {
        number: _parsed(line) for number, line in enumerate(path.read_bytes().splitlines(), 1)
    }
    torn = [number for number, record in records.items() if record is None]
    is_log = len(torn) < len(records)
    if torn and is_log:
        log.warning("%s: left out %d line(s) that are no JSON, first %d", path, len(torn), torn[0])
    for number, parsed in records.items():
        if is_log and parsed is None:
            continue
        record = parsed or {}
        wrong = [name for name, kind in KEYS.items() if not isinstance(record.get(name), kind)]
        if wrong:
            raise ValueError(
                f"{path}:{number}: got a line without {', '.join(wrong)} (or with another type), "
                "expected a captured request"
            )
        yield record


def body_of(record: Json) -> bytes | None:
    """The request's body; None if it was too long to be captured."""
    if "body_base64" in record:
        return b64decode(record["body_base64"])
    return record["body"].encode() if "body" in record else None


def replay(records: Sequence[Json], url: str, key: str | None) -> Iterator[Replayed]:
    """Send one request after another over one connection; requests without a captured body are left out.

    Raises:
        httpx.HTTPError: the service does not answer.
        ValueError: the URL is not an HTTP URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--url: got {url!r}, expected http://host:port")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        for record in records:
            body = body_of(record)
            if body is not None:
                yield _send(client, record, body)


def _send(client: httpx.Client, record: Json, body: bytes) -> Replayed:
    headers = {**record.get("headers", {}), "x-request-id": f"replay-{record['request_id']}"[:128]}
    path = record["path"] + (f"?{record['query']}" if record.get("query") else "")
    began = perf_counter()
    response = client.request(record["method"], path, content=body, headers=headers)
    took_ms = 1000 * (perf_counter() - began)
    now = _parsed(response.content) or {}
    then = _parsed(record.get("answer", "").encode()) or {}
    then_from, now_from = made_from(then), made_from(now)
    agrees = agree(then, now) if then_from and then_from == now_from else None
    return Replayed(record, response.status_code, took_ms, then_from, now_from, agrees)


def _parsed(raw: bytes) -> Json | None:
    """A JSON object; empty for other JSON, None for what is no JSON."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else {}


def made_from(answer: Json) -> list[str]:
    """Generation and state source of each user and model of an answer; empty if the answer states neither."""
    if "outputs" in answer:
        outputs = {output["name"]: output.get("data", ()) for output in answer["outputs"]}
        pairs = zip(outputs.get("generation", ()), outputs.get("state_source", ()), strict=False)
        return [f"{generation} {source}" for generation, source in pairs]
    return [
        f"{scored['generation']} {scored['state']['source']}"
        for scored in answer.get("models", [answer])
        if scored.get("generation") and scored.get("state")
    ]


def agree(then: Json, now: Json) -> bool | None:
    """Whether two answers have the same scores; None if one has no scores."""
    left, right = _scores(then), _scores(now)
    if not left or not right:
        return None
    return left.keys() == right.keys() and all(
        abs(score - right[place]) <= TOLERANCE for place, score in left.items()
    )


def _scores(answer: Json) -> dict[object, float]:
    """Position or item -> score, of an answer of any scoring route."""
    if answer.get("scores"):
        return dict(enumerate(answer["scores"]))
    if answer.get("ranked"):
        return {entry["item"]: entry["score"] for entry in answer["ranked"]}
    scores: dict[object, float] = {}
    for model in answer.get("models") or ():
        scores |= {(model["model"], place): score for place, score in _scores(model).items()}
    for output in answer.get("outputs") or ():
        if output.get("datatype", "").startswith("FP"):
            scores |= {(output["name"], at): score for at, score in enumerate(output["data"])}
    return scores


def show(replayed: Sequence[Replayed], num_records: int, console: Console) -> None:
    """Print a row per request."""
    table = Table("request", "route", "status", "then ms", "now ms", "made from", "scores")
    words = {True: "agree", False: "differ", None: "none to compare"}
    for request in replayed:
        record = request.record
        then = ", ".join(request.then_from) or "unknown"
        now = ", ".join(request.now_from) or "unknown"
        table.add_row(
            record["request_id"],
            record["route"],
            f"{record['status']} → {request.status}",
            f"{record['took_ms']:.1f}",
            f"{request.took_ms:.1f}",
            then if now == then else f"{then} → {now}",
            words[request.agrees],
        )
    console.print(table)
    faster = sum(request.took_ms < request.record["took_ms"] for request in replayed)
    console.print(
        f"{len(replayed)} of {num_records} replayed, {faster} of them faster than when captured"
    )


if __name__ == "__main__":
    app()
