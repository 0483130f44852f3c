"""Waits until the services serve what was published, and says who does."""

from builder.cli.progress_bar import console
from builder.publish.cache import CacheClient
from builder.publish.default_model import read_default
from builder.publish.services import announcements, require_served, wait_until_served


def confirm_served(client: CacheClient, model: str, generation: str, limit_s: float) -> None:
    """Wait for the live services, and print which serve a published generation.

    Args:
        client: the cache.
        model: name that the model is served under.
        generation: name of the generation.
        limit_s: time limit in seconds; 0: do not ask.

    Raises:
        NotServedError: a live service does not serve it in time; names each, with its reason.
        CacheUnavailableError: the cache does not answer.
    """
    if limit_s == 0:
        return
    with console.status(f"waiting until the services serve {generation}"):
        served = wait_until_served(client, model, generation, limit_s)
    if served.replaced_by:
        line = f"{model}: {served.replaced_by} was published meanwhile, in place of {generation}"
    elif served.serving:
        line = f"{model}: {generation} is served by {', '.join(served.serving)}"
    else:
        line = f"{model}: no running service follows this cache; {generation} serves once one does"
    if served.serving or served.replaced_by or not served.missing:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    require_served(served, model, generation, limit_s)


def print_default(client: CacheClient) -> None:
    """Print which model answers requests that name none, and which running services differ.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    chosen = read_default(client)
    line = f"requests that name no model: {chosen or 'none answers them yet'}"
    if chosen:
        line += " answers them; `absorb default MODEL` makes it another"
    console.print(line, highlight=False, soft_wrap=True, markup=False)
    for name, announced in announcements(client).items():
        if chosen and announced.default not in (None, chosen):
            line = f"  but service {name}: {announced.default} (ABSORB_DEFAULT_MODEL, or not polled yet)"
            console.print(line, highlight=False, soft_wrap=True, markup=False)
