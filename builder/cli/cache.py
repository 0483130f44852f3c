"""Commands that need only the cache: `rollback`, `default` and `status`."""

from typing import Annotated

import typer

from builder.cli.catalogue import INSPECT, RECOVER
from builder.cli.options import CACHE, CacheUrl
from builder.cli.progress_bar import console
from builder.cli.served import confirm_served, print_default
from builder.cli.status_lines import status_lines
from builder.publish.cache import connect_cache
from builder.publish.default_model import choose_default, read_default
from builder.publish.generations import rollback as make_previous_serve
from builder.publish.status import status as read_status
from models.command_line import EXIT_CODES
from models.contract.cache_url import redact_url

app = typer.Typer()
WaitSeconds = Annotated[
    float,
    typer.Option(
        "--wait", min=0, help="seconds until every running service must serve it; 0: do not wait"
    ),
]


@app.command(rich_help_panel=RECOVER, epilog=f"Example: absorb rollback lrea\n\n{EXIT_CODES}")
def rollback(
    model: Annotated[
        str, typer.Argument(help="name that the model is served under, for example lrea")
    ],
    cache: CacheUrl = CACHE,
    wait_s: WaitSeconds = 60.0,
) -> None:
    """Make the previous generation serve again. Running it twice restores the current one.

    The pointer is flipped at once; then the command waits until the running services serve that generation, and fails
    if one of them does not in time. After a publish in place (`publish.mode = "rolling"`) there is no previous
    generation to return to; the error says what to do instead.
    """
    client = connect_cache(cache)
    pointer = make_previous_serve(client, model)
    serving = f"{pointer.current.name} serves again (artifact {pointer.current.artifact_id})"
    console.print(f"{model}: {serving}", markup=False, highlight=False, soft_wrap=True)
    confirm_served(client, model, pointer.current.name, wait_s)


@app.command(
    rich_help_panel=INSPECT,
    epilog=f"Example: absorb status --cache redis://127.0.0.1:6379/0\n\n{EXIT_CODES}",
)
def status(cache: CacheUrl = CACHE) -> None:
    """Show each model's generations, its number of users, and the builder that is publishing it."""
    client = connect_cache(cache)
    text = status_lines(redact_url(cache), read_status(client), read_default(client))
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(
    rich_help_panel=RECOVER,
    epilog=f"Example: absorb default lrea --cache redis://127.0.0.1:6379/0\n\n{EXIT_CODES}",
)
def default(
    model: Annotated[
        str | None, typer.Argument(help="published model; without one, the default is shown")
    ] = None,
    cache: CacheUrl = CACHE,
) -> None:
    """Show or choose the default model, which answers requests that name none.

    The first publish to a cache sets it, and no later publish changes it. All services of the cache follow within a
    poll, except those with ABSORB_DEFAULT_MODEL.
    """
    client = connect_cache(cache)
    if model is not None:
        before = choose_default(client, model)
        console.print(f"default model: {model}; it was {before or 'not set'}", highlight=False)
    print_default(client)
