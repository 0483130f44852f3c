"""`absorb bench-fresh`: from `POST /v1/events` to a changed score, and events that a worker folds in a second.

    absorb bench-fresh var/artifacts/<id>

It starts a cache, a service and a worker of its own. Measure on a machine that does nothing else.
"""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer

from loadtest.fresh import latency, throughput
from loadtest.fresh.report import is_met, page, write_report
from loadtest.fresh.world import World, following, published, serving
from loadtest.machine import commit, describe_machine
from models.command_line import run_app
from models.contract.errors import AbsorbError
from models.live.keys import FOLLOWERS_KEY
from service.errors import NotReadyError

OUT = Path("loadtest/results/fresh")
START_LIMIT_S = 30.0
WARM_UP_S = 2.0
EXIT_CODES = (
    "Exit codes: 0 the targets are met, 1 they are missed, 2 it could not be run, or wrong usage."
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=f"Example: absorb bench-fresh var/artifacts/0123…\n\n{EXIT_CODES}")
def bench(  # noqa: PLR0913 - options of a command
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact")],
    out: Annotated[Path, typer.Option(help="folder of the results")] = OUT,
    events: Annotated[float, typer.Option(min=10, help="events a second")] = 200.0,
    scores: Annotated[float, typer.Option(min=1, help="score requests a second")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, help="how long to measure freshness")] = 60.0,
    users: Annotated[int, typer.Option(min=10, help="number of users")] = 2000,
    fold_seconds: Annotated[float, typer.Option(min=0.1, help="seconds of each folder")] = 15.0,
    fold_events: Annotated[int, typer.Option(min=1, help="most events of each folder")] = 40_000,
    folders_only: Annotated[
        bool, typer.Option("--folders-only", help="measure no freshness, and start no service")
    ] = False,
) -> None:
    """Measure freshness, then each folder; write a table, JSON and a plot.

    The folder *additive* needs an artifact whose states are sums: builder/recipes/experiments/sums.toml makes one.
    """
    try:
        with published(artifact, users) as world, TemporaryDirectory() as logs:
            rates = (events, scores, seconds)
            fresh = None if folders_only else _fresh(world, Path(logs), rates)
            workers = throughput.measure(world, fold_seconds, fold_events)
            about: dict[str, Any] = {
                "machine": describe_machine(),
                "commit": commit(),
                "artifact": world.artifact.artifact_id,
                "users": users,
                "history": world.artifact.manifest.schema.history_length,
            }
    except (AbsorbError, OSError, ValueError, httpx.HTTPError) as error:
        raise typer.BadParameter(f"{type(error).__name__}: {error}") from error
    write_report(out, about, fresh, workers)
    typer.echo(page(about, fresh, workers))
    raise typer.Exit(0 if fresh is None or is_met(fresh) else 1)


def _fresh(world: World, logs: Path, rates: tuple[float, float, float]) -> latency.Freshness:
    events, scores, seconds = rates
    with serving(world, logs / "service.log") as url, following(world, logs / "follow.log"):
        deadline = time.monotonic() + START_LIMIT_S
        while not world.client.exists(FOLLOWERS_KEY):
            if time.monotonic() > deadline:
                text = (logs / "follow.log").read_text(errors="replace")[-2000:]
                raise NotReadyError(f"the worker does not start:\n{text}")
            time.sleep(0.1)
        asyncio.run(latency.measure(world, url, events, scores, WARM_UP_S))
        return asyncio.run(latency.measure(world, url, events, scores, seconds))


if __name__ == "__main__":
    run_app(app, "python -m loadtest.fresh")
