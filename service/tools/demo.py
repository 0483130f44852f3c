"""`absorb demo`: start the service, rank a slate for a user of the cache over HTTP; the user buys, and it ranks again.

Item names come from the artifact's display texts; the service itself never reads them.
"""

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.contract.errors import AbsorbError
from service.errors import NotReadyError
from service.settings import read_settings
from service.tools.demo_purchase import Shopper, show_purchase
from service.tools.published import Published, read_published
from service.tools.running_service import running_service

LOG = Path("var/demo/service.log")
MAX_USERS_READ = 100
NUM_FAMILIAR = 8
"""Candidates that the user bought recently; their ranks show whether the history counts."""
NUM_OTHERS = 12
NUM_SENT = 3
"""Candidates of the printed request, where the whole slate is too long to print."""
MAX_FIELD_WIDTH = 14
NUM_NAMED = 6
"""Latest items of the user that are printed."""
TIMEOUT_S = 30.0
DISCLAIMER = "Click probabilities only if the log has exposures: docs/results/tasks.md."
ROWS = {
    "test": "this model",
    "floor": "baseline: counts",
    "trees_floor": "baseline: trees",
    "uncalibrated": "not calibrated",
}
"""Parts of an artifact's report, as they are printed."""
METRICS = ("auc", "gauc", "slate_gauc", "slate_ndcg", "log_loss", "pcoc")
"""Metrics of a part that are printed, if it has them; the rest is in the report of the build."""
EXIT_CODES = "Exit codes: 0 all is well; 1 nothing is published, or a request failed; 2 a setting or argument is wrong."

Json = dict[str, Any]
Candidate = str | Json
"""An item id, or an object with an id and fields."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=EXIT_CODES)
def demo(
    model: Annotated[
        str | None, typer.Option(help="a published model; default: the service's choice")
    ] = None,
    user: Annotated[str | None, typer.Option(help="user id; default: a user of the cache")] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="item id, may be repeated; default: the log's latest slate, or a mixed one"
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="number of candidates to print", min=1)] = 10,
    purchase: Annotated[
        bool, typer.Option(help="buy something for the user; it stays in the user's state")
    ] = True,
) -> None:
    """Start the service on a free port, score candidates for a user, print the ranked list.

    Then start `absorb follow`, send a purchase of the user, and print how it changed the ranking, and how soon.
    Use --no-purchase on a cache whose users are real.

    Example: absorb demo --user 1 --top-k 5
    """
    try:
        # Read before the service starts: it would wait until something is published.
        settings = read_settings()
        published = read_published(settings, model, MAX_USERS_READ)
        slate = list(candidate or whole_slate(published)[: settings.max_candidates])
        with running_service(LOG) as url, httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
            cache_url = settings.cache_url if purchase else None
            show(client, published, user, slate, top_k, Console(), cache_url)
    except AbsorbError as error:
        typer.echo(f"demo: {error}", err=True)
        raise typer.Exit(1) from error


def show(
    client: httpx.Client,
    published: Published,
    user_id: str | None,
    candidates: list[Candidate],
    top_k: int,
    console: Console,
    cache_url: str | None,
) -> None:
    """Send the requests and print the answers.

    Args:
        client: of the service.
        published: the generation that scores.
        user_id: the user; None: one of the cache.
        candidates: ids, or objects with fields; none: a mixed slate.
        top_k: number of candidates to print.
        console: prints.
        cache_url: of the cache, as in the settings; None: the user buys nothing.

    Raises:
        AbsorbError: an answer is an error, or the cache holds no user.
    """
    model = published.generation.model
    user = read_user(client, user_id, model) if user_id else pick_user(client, published)
    candidates = candidates or [*pick_candidates(user["recent"], published)]
    request = {
        "user_id": user["user_id"],
        "candidates": candidates,
        "model": model,
        "top_k": top_k,
    }
    answer = send(client, "POST", "/v1/score", json=request)
    models = send(client, "GET", "/v1/models")["models"]
    served = next(entry for entry in models if entry["name"] == model)
    names = published.artifact.item_texts()
    console.print(ranking(answer, set(user["recent"]), names, candidates))
    console.print(Text(learned(served["report"])), soft_wrap=True)
    console.print(DISCLAIMER)
    console.print(latest(user["recent"], names), overflow="ellipsis", no_wrap=True)
    console.print(state(answer, user, served), soft_wrap=True, markup=False)
    console.print(metrics(served["report"]))
    if cache_url is not None:
        shopper = Shopper(
            user["user_id"], frozenset(filter(None, user["recent"])), candidates, model
        )
        show_purchase(
            lambda method, path, body: send(client, method, path, json=body),
            cache_url, published, shopper, names, console,
        )  # fmt: skip
    is_long = len(candidates) > NUM_FAMILIAR + NUM_OTHERS
    what = f"The same request with {NUM_SENT} of its candidates" if is_long else "The same request"
    console.print(f"{what}, to a service started by [bold]make serve[/]:")
    sent = candidates[:NUM_SENT] if is_long else candidates
    request = {**request, "candidates": sent}
    console.print(curl("http://127.0.0.1:8000", request), soft_wrap=True, markup=False)


def whole_slate(published: Published) -> list[Candidate]:
    """The candidates of the log's latest request, with their fields; none if the artifact has no such slate."""
    slate = published.artifact.example_slate()
    if slate is None:
        return []
    columns = slate.fields.items()
    return [
        {"id": item, "fields": {name: values[at] for name, values in columns}}
        for at, item in enumerate(slate.candidates)
    ]


def pick_candidates(recent: list[str | None], published: Published) -> list[str]:
    """Items from the user's recent history and items from the whole catalogue, shuffled; the same in every run."""
    familiar = list(dict.fromkeys(item for item in reversed(recent) if item))[:NUM_FAMILIAR]
    others = sorted(set(published.artifact.vocabulary.items) - set(familiar))
    chance = random.Random(0)
    candidates = familiar + chance.sample(others, min(NUM_OTHERS, len(others)))
    chance.shuffle(candidates)
    return candidates


def ranking(
    answer: Json, recent: set[str], names: Mapping[str, str], candidates: Sequence[Candidate]
) -> Table:
    """The ranked candidates, with their names if any item has one, and with their fields."""
    placed = {one["id"]: one["fields"] for one in candidates if isinstance(one, dict)}
    fields = list(next(iter(placed.values()), {}))
    count = f"{len(answer['ranked'])} of {len(candidates):,} candidates"
    table = Table(title=Text(f"Candidates for user {answer['user_id']}, best first: {count}"))
    table.add_column("rank", justify="right", no_wrap=True, min_width=4)
    table.add_column("item", no_wrap=True)
    if names:
        table.add_column("name", max_width=max(16, 38 - 8 * len(fields)), no_wrap=True)
    for field in fields:
        table.add_column(Text(field), max_width=MAX_FIELD_WIDTH, no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True, min_width=6)
    table.add_column("recent", no_wrap=True, min_width=6)
    for rank, entry in enumerate(answer["ranked"], 1):
        item = entry["item"]
        name = [Text(names.get(item, ""))] if names else []
        had = "yes" if item in recent else ""
        given = [Text(placed[item][field] or "") for field in fields]
        table.add_row(str(rank), Text(item), *name, *given, f"{entry['score']:.4f}", had)
    return table


def latest(recent: list[str | None], names: Mapping[str, str]) -> Text:
    """The user's latest items, newest first, by name where an item has one."""
    items = [item for item in reversed(recent) if item]
    shown = [names.get(item, item) for item in dict.fromkeys(items)][:NUM_NAMED]
    return Text(f"Latest items of the user, newest first: {'; '.join(shown) or 'none'}")


def state(answer: Json, user: Json, served: Json) -> str:
    """What the scores were computed from, in words."""
    shapes = ", ".join(f"{t['name']} {'×'.join(map(str, t['shape']))}" for t in user["tensors"])
    as_of_s = answer["state"]["as_of_s"]
    as_of = "an empty history" if as_of_s is None else f"{datetime.fromtimestamp(as_of_s, UTC):%F}"
    reason = f" ({answer['degraded_reason']})" if answer["degraded"] else ""
    return (
        f"State: {answer['state']['source']}{reason}, {user['num_bytes']:,} bytes, as of {as_of}: {shapes}\n"
        f"Model: {answer['model']}, generation {answer['generation']}, artifact {answer['artifact_id']},\n"
        f"       {served['num_users']:,} users in the cache, history length {served['history_length']},"
        f" scored by {served['engine']['name']} in {answer['timings_ms']['total']:.1f} ms"
    )


def learned(report: Json) -> str:
    """What the model learned and how well, in two sentences."""
    what = "The model learned from past slates which candidates users with such a history choose."
    model, trees = report.get("test") or {}, report.get("trees_floor") or {}
    pairs = model.get("slate_gauc")
    if pairs is None:
        return f"{what} On later ones its AUC is {model.get('auc', 0.0):.3f}."
    beside = (
        f" (boosted trees on counts: {trees['slate_gauc']:.1%})" if trees.get("slate_gauc") else ""
    )
    return f"{what}\nOn later slates it puts a chosen candidate above another one in {pairs:.1%} of the pairs{beside}."


def metrics(report: Json) -> Table:
    """Metrics on the test period, as the builder measured them: the model, and the baselines where there are any."""
    parts = {name: part for name, part in report.items() if _is_metrics(part)}
    table = Table(title="On the test period", title_justify="left")
    table.add_column("")
    first: Json = next(iter(parts.values()), {})
    columns = [column for column in METRICS if column in first]
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, part in parts.items():
        values = ["" if part.get(column) is None else _number(part[column]) for column in columns]
        table.add_row(ROWS.get(name, name), *values)
    return table


def _is_metrics(part: object) -> bool:
    return isinstance(part, dict) and "auc" in part


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def curl(url: str, request: Json) -> str:
    """The request as a shell command."""
    body = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    return f"curl -s {url}/v1/score -H 'Content-Type: application/json' -d '{body}'"


def pick_user(client: httpx.Client, published: Published) -> Json:
    """The first user, by id, with at least `NUM_FAMILIAR` different recent items; the first of all if none has.

    Raises:
        NotReadyError: the generation holds no user, or a request failed.
    """
    user_ids = sorted(published.users)
    if not user_ids:
        raise NotReadyError(f"generation {published.generation.name}: got no user, expected one")
    users = (read_user(client, user_id, published.generation.model) for user_id in user_ids)
    first = next(users)
    busy = (user for user in chain([first], users) if len(set(user["recent"])) >= NUM_FAMILIAR)
    return next(busy, first)


def read_user(client: httpx.Client, user_id: str, model: str) -> Json:
    """What the cache holds of a user.

    Raises:
        NotReadyError: the request failed.
    """
    return send(client, "GET", f"/v1/users/{quote(user_id, safe='')}", params={"model": model})


def send(client: httpx.Client, method: str, path: str, **options: Any) -> Json:
    """Send a request and return its JSON.

    Raises:
        NotReadyError: the service does not answer, or answers with an error.
    """
    try:
        answer = client.request(method, path, **options)
    except httpx.HTTPError as error:
        raise NotReadyError(f"{path}: got no answer: {error}") from error
    if answer.is_error:
        raise NotReadyError(f"{path}: got status {answer.status_code}: {answer.text}")
    content: Json = answer.json()
    return content


if __name__ == "__main__":
    app()
