"""`absorb plan`: find out what is to be stored, and print the memory that it needs."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.catalogue import INSPECT
from builder.cli.options import ARTIFACTS, CACHE, RUNS, Artifacts, CacheUrl, Runs
from builder.cli.plan_table import explanation, parts_table, plan_table
from builder.cli.progress_bar import console
from builder.publish.cache import connect_cache
from builder.publish.capacity import (
    Load,
    computed_history,
    load_of_bytes,
    load_of_spec,
    make_plan,
    measured,
)
from builder.publish.generations import read_pointer
from builder.publish.live_capacity import STREAM_BYTES, Live
from models.command_line import EXIT_CODES
from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import UnknownModelError
from models.contract.generation import MODELS_KEY
from models.contract.record import USER_ID_BYTES
from models.contract.state_spec import TensorSpec
from models.live.history import EVENT_BYTES, base_length

PANEL = INSPECT
RECENT = 32
"""Latest events in a record where the recipe is not known: the default of recipes."""
HISTORY = 512
"""Events of a base history where the recipe is not known: the default of recipes."""
app = typer.Typer(
    help="Compute the memory that the cache needs: records, base histories, logs of live events and streams, by record "
    "dtype and publish mode, and the maxmemory to set.",
    epilog=f"Example: absorb plan numbers --users 1000000 --rank 64 --dim 32\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
)

Users = Annotated[
    int | None, typer.Option(min=1, help="number of users; default: the current number")
]
SomeUsers = Annotated[int, typer.Option(min=1, help="number of users")]
Replicas = Annotated[int, typer.Option(min=0, help="copies of each shard beside its primary")]
Shards = Annotated[int, typer.Option(min=1, help="primaries of the cluster")]
LiveEvents = Annotated[
    float, typer.Option(min=0, help="live events of a user that the cache keeps, on average")
]
LIVE_EVENTS = 10.0
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


@app.command("model", epilog=f"Example: absorb plan model lrea --replicas 1\n\n{EXIT_CODES}")
def of_model(
    name: Annotated[str, typer.Argument(help="name that the model is served under")],
    users: Users = None,
    replicas: Replicas = 0,
    shards: Shards = 1,
    live_events: LiveEvents = LIVE_EVENTS,
    as_json: AsJson = False,
    cache: CacheUrl = CACHE,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """For a published model. Mean sizes of records and keys are measured on those in the cache."""
    client = connect_cache(cache)
    pointer, _ = read_pointer(client, name)
    if pointer is None:
        known = (model.decode() for model in client.smembers(MODELS_KEY))  # type: ignore[union-attr]
        raise UnknownModelError(name, known)
    artifact = load_artifact(artifacts, pointer.current.artifact_id)
    load = _of_artifact(name, artifact, users or pointer.current.num_users, live_events)
    spec = artifact.manifest.state_spec
    _show(measured(client, pointer.current, load, spec), replicas, shards, as_json)


@app.command(
    "artifact",
    epilog=f"Example: absorb plan artifact 0123456789abcdef0123456789abcdef --users 1000000\n\n{EXIT_CODES}",
)
def of_artifact(
    artifact_id: Annotated[str, typer.Argument(help="id of an artifact")],
    users: SomeUsers,
    replicas: Replicas = 0,
    shards: Shards = 1,
    live_events: LiveEvents = LIVE_EVENTS,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """For an exported artifact and a number of users, each with the largest record."""
    artifact = load_artifact(artifacts, artifact_id)
    load = _of_artifact(artifact.manifest.model, artifact, users, live_events)
    _show(load, replicas, shards, as_json)


@app.command(
    "recipe", epilog=f"Example: absorb plan recipe builder/recipes/tiny.toml\n\n{EXIT_CODES}"
)
def of_recipe(
    recipe: Annotated[Path, typer.Argument(help="recipe whose log is ingested")],
    users: Users = None,
    replicas: Replicas = 0,
    shards: Shards = 1,
    live_events: LiveEvents = LIVE_EVENTS,
    as_json: AsJson = False,
    runs: Runs = RUNS,
) -> None:
    """For a recipe whose log is ingested, with the mean size of its users' records; the model need not be trained."""
    import torch  # not before the command runs: it takes seconds

    from builder.cli.options import make_build
    from builder.errors import StepError
    from builder.evaluate.record_sizes import measure_record_sizes
    from models.registry import build_model

    build = make_build(recipe, runs)
    if "ingest" not in build.folder.stamps():
        raise StepError(
            f"plan: the log of {recipe} is not ingested, so its number of users is not known; run `absorb ingest "
            f"{recipe}` first, or use `absorb plan numbers`"
        )
    events, choice = build.events(), build.recipe.model
    id_bytes = round(sum(len(user.encode()) for user in events.user_ids) / events.num_users)
    item_fields = torch.from_numpy(events.item_fields.astype("int64"))
    model = build_model(choice.name, events.schema, item_fields, choice.config).eval()
    found, name = measure_record_sizes(model, events), build.recipe.serve_as
    sizes: dict[str, int] = {
        dtype: size + id_bytes - USER_ID_BYTES for dtype, size in found.mean.items()
    }
    load = load_of_bytes(name, users or events.num_users, sizes, id_bytes)
    fields, length = len(events.schema.user_fields), round(found.raw / EVENT_BYTES)
    history = computed_history(name, id_bytes, fields, length) if build.recipe.cache.follow else 0.0
    _show(_with_live(load, history, live_events), replicas, shards, as_json)


@app.command(
    "numbers",
    epilog=f"Example: absorb plan numbers --users 1000000 --bytes 2048 --shards 3\n\n{EXIT_CODES}",
)
def of_numbers(  # noqa: PLR0913 - options of a command
    users: SomeUsers,
    record: Annotated[int | None, typer.Option("--bytes", min=1, help="size of a record")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="r of LREA's two r × d tensors")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="d of LREA's two r × d tensors")] = None,
    history: Annotated[
        int, typer.Option(min=0, help="events of a user's base history; 0: published without")
    ] = HISTORY,
    replicas: Replicas = 0,
    shards: Shards = 1,
    live_events: LiveEvents = LIVE_EVENTS,
    as_json: AsJson = False,
) -> None:
    """For a number of users with records of --bytes, or with LREA's records of --rank × --dim."""
    if record is not None and rank is None and dim is None:
        load = load_of_bytes("model", users, {"any": record}, USER_ID_BYTES)
    elif record is None and rank is not None and dim is not None:
        spec = tuple(TensorSpec(name, (rank, dim)) for name in ("compressed", "absorbed"))
        load = load_of_spec("lrea", users, spec, RECENT, USER_ID_BYTES)
    else:
        raise typer.BadParameter("expected --bytes, or both --rank and --dim")
    base = computed_history(load.model, USER_ID_BYTES, 0, history) if history else 0.0
    _show(_with_live(load, base, live_events), replicas, shards, as_json)


def _of_artifact(name: str, artifact: Artifact, users: int, live_events: float) -> Load:
    schema, spec = artifact.manifest.schema, artifact.manifest.state_spec
    load = load_of_spec(name, users, spec, schema.recent_length, USER_ID_BYTES)
    fields, length = len(schema.user_fields), base_length(schema)
    return _with_live(load, computed_history(name, USER_ID_BYTES, fields, length), live_events)


def _with_live(load: Load, history_bytes: float, live_events: float) -> Load:
    """The load with base histories, logs of live events, and full streams."""
    return replace(load, live=Live(history_bytes, live_events, sum(STREAM_BYTES.values())))


def _show(load: Load, replicas: int, shards: int, as_json: bool) -> None:
    needs = make_plan(load, replicas, shards)
    if as_json:
        setup = {"replicas": replicas, "shards": shards, "needs": [asdict(need) for need in needs]}
        console.print_json(json.dumps({**asdict(load), **setup}))
    else:
        console.print(plan_table(load, needs, replicas, shards))
        console.print(parts_table(load, needs))
        console.print(explanation(load), soft_wrap=True, highlight=False)
