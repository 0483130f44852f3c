"""`python -m service.tools.demo`: start the service, score candidates for a real user over HTTP, show what came back.

Ends with exit code 1 and the reason if anything fails.
"""

import argparse
import json
import random
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models.contract.errors import AbsorbError
from service.errors import NotReadyError
from service.settings import read_settings
from service.tools.published import Published, read_published
from service.tools.running_service import running_service

LOG = Path("var/demo/service.log")
USERS_LOOKED_AT = 100
NUM_FAMILIAR = 8
"""Candidates that the user bought lately; their ranks show whether the history counts."""
NUM_OTHERS = 12
TIMEOUT_S = 30
COLUMNS = {"test": "this model", "floor": "counts only", "trees_floor": "trees on counts and ages"}

Json = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        # Before the service starts: it would wait for something to be published.
        published = read_published(read_settings(), options.model, USERS_LOOKED_AT)
        with running_service(LOG) as url:
            show(url, published, options, Console())
    except AbsorbError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    return 0


def show(url: str, published: Published, options: argparse.Namespace, console: Console) -> None:
    """Ask the service, print its answers.

    Raises:
        AbsorbError: an answer is an error, or there is nothing to ask about.
    """
    model = published.generation.model
    user = _ask(url, _user_path(options.user, model)) if options.user else _a_user(url, published)
    candidates = options.candidate or pick_candidates(user["recent"], published)
    request = {
        "user_id": user["user_id"],
        "candidates": candidates,
        "model": model,
        "top_k": options.top_k,
    }
    answer = _ask(url, "/v1/score", request)
    (about,) = [one for one in _ask(url, "/v1/models")["models"] if one["name"] == model]
    console.print(ranking(answer, set(user["recent"])))
    console.print(state(answer, user, about), soft_wrap=True)
    console.print(metrics(about))
    console.print("The same request, to a service started by [bold]make serve[/]:")
    console.print(curl("http://127.0.0.1:8000", request), soft_wrap=True, markup=False)


def pick_candidates(recent: list[str | None], published: Published) -> list[str]:
    """Items that the user had lately and items from the whole catalogue, shuffled; the same for every run."""
    familiar = list(dict.fromkeys(item for item in reversed(recent) if item))[:NUM_FAMILIAR]
    others = sorted(set(published.artifact.vocabulary.items) - set(familiar))
    chance = random.Random(0)
    candidates = familiar + chance.sample(others, min(NUM_OTHERS, len(others)))
    chance.shuffle(candidates)
    return candidates


def ranking(answer: Json, recent: set[str]) -> Table:
    """The ranked list."""
    table = Table(title=f"Candidates for user {answer['user_id']}, best first")
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("click probability", justify="right")
    table.add_column("among the user's latest")
    for rank, entry in enumerate(answer["ranked"], 1):
        had = "yes" if entry["item"] in recent else ""
        table.add_row(str(rank), entry["item"], f"{entry['score']:.4f}", had)
    return table


def state(answer: Json, user: Json, about: Json) -> str:
    """What the scores were made from, in words."""
    shapes = ", ".join(f"{t['name']} {'×'.join(map(str, t['shape']))}" for t in user["tensors"])
    as_of_s = answer["state"]["as_of_s"]
    as_of = "an empty history" if as_of_s is None else f"{datetime.fromtimestamp(as_of_s, UTC):%F}"
    why = f" ({answer['degraded_reason']})" if answer["degraded"] else ""
    return (
        f"State: {answer['state']['source']}{why}, {user['num_bytes']:,} bytes, as of {as_of}: {shapes}\n"
        f"Model: {answer['model']}, generation {answer['generation']}, artifact {answer['artifact_id']},\n"
        f"       {about['num_users']:,} users in the cache, history length {about['history_length']},"
        f" scored by {about['provider']} in {answer['timings_ms']['total']:.1f} ms"
    )


def metrics(about: Json) -> Table:
    """The model's metrics on the test period, as the builder found them; beside it the floor, if it was measured."""
    table = Table(title="On the test period", title_justify="left")
    table.add_column("metric")
    columns = {name: part for name, part in about["report"].items() if _is_metrics(part)}
    for name in columns:
        table.add_column(COLUMNS.get(name, name), justify="right")
    for metric in next(iter(columns.values()), {}):
        values = [part[metric] for part in columns.values()]
        table.add_row(metric, *(f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in values))
    return table


def _is_metrics(part: object) -> bool:
    return isinstance(part, dict) and "auc" in part


def curl(url: str, request: Json) -> str:
    """The request as a shell command."""
    body = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    return f"curl -s {url}/v1/score -H 'Content-Type: application/json' -d '{body}'"


def _a_user(url: str, published: Published) -> Json:
    """The first user by id with enough recent events to make a slate of; else the first."""
    users = sorted(published.users)
    if not users:
        raise NotReadyError(f"generation {published.generation.name} holds no user")
    found = (_ask(url, _user_path(user, published.generation.model)) for user in users)
    first = next(found)
    enough = (user for user in chain([first], found) if len(set(user["recent"])) >= NUM_FAMILIAR)
    return next(enough, first)


def _user_path(user_id: str, model: str) -> str:
    query = urllib.parse.urlencode({"model": model})
    return f"/v1/users/{urllib.parse.quote(user_id, safe='')}?{query}"


def _ask(url: str, path: str, body: Json | None = None) -> Json:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            read: Json = json.load(answer)
            return read
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
        raise NotReadyError(f"{path} answered {error.code}: {text}") from error
    except OSError as error:
        raise NotReadyError(f"{path} got no answer: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m service.tools.demo", description=__doc__)
    parser.add_argument("--model", help="a published model; absent: the one the service takes")
    parser.add_argument("--user", help="user id; absent: one of the cache's")
    parser.add_argument("--candidate", action="append", help="item id; absent: a mixed slate")
    parser.add_argument("--top-k", type=int, default=10)
    return parser


if __name__ == "__main__":
    sys.exit(main())
