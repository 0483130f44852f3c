"""`python -m builder plan`: finds out what is to be stored, and prints what it needs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from builder.cli.plan_table import explanation, plan_table
from builder.cli.progress_bar import console
from builder.errors import StepError
from builder.publish.cache import connect_cache
from builder.publish.capacity import Load, load_of_bytes, load_of_spec, make_plan, measured
from builder.publish.generations import read_pointer
from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import UnknownModelError
from models.contract.generation import MODELS_KEY
from models.contract.record import USER_ID_BYTES, TensorSpec
from models.registry import build_model

RECENT = 32
"""Latest events in a record, where it is not known: a recipe's default."""
app = typer.Typer(
    help="How much memory the cache needs: users × bytes, by record dtype and mode of publishing; maxmemory to set.",
    no_args_is_help=True,
)

Users = Annotated[int | None, typer.Option(min=1, help="users, if others than there are")]
SomeUsers = Annotated[int, typer.Option(min=1, help="number of users")]
Replicas = Annotated[int, typer.Option(min=0, help="copies of each shard beside its primary")]
Shards = Annotated[int, typer.Option(min=1, help="primaries of the cluster")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]
Artifacts = Annotated[
    Path, typer.Option(envvar="ABSORB_ARTIFACT_DIR", help="folder of all artifacts")
]
ARTIFACTS = Path("var/artifacts")


@app.command("model")
def of_model(
    name: Annotated[str, typer.Argument(help="name it is served under")],
    users: Users = None,
    replicas: Replicas = 0,
    shards: Shards = 1,
    as_json: AsJson = False,
    cache: Annotated[
        str, typer.Option(envvar="ABSORB_CACHE_URL", help="where it is published")
    ] = "embedded:",
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Of a published model. What a key takes is measured on those that are there."""
    client = connect_cache(cache)
    pointer, _ = read_pointer(client, name)
    if pointer is None:
        known = (model.decode() for model in client.smembers(MODELS_KEY))  # type: ignore[union-attr]
        raise UnknownModelError(name, known)
    artifact = load_artifact(artifacts, pointer.current.artifact_id)
    load = _of_artifact(name, artifact, users or pointer.current.num_users)
    _show(measured(client, pointer.current, load), replicas, shards, as_json)


@app.command("artifact")
def of_artifact(
    artifact_id: Annotated[str, typer.Argument(help="id of an artifact")],
    users: SomeUsers,
    replicas: Replicas = 0,
    shards: Shards = 1,
    as_json: AsJson = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Of an exported artifact, for a number of users."""
    artifact = load_artifact(artifacts, artifact_id)
    _show(_of_artifact(artifact.manifest.model, artifact, users), replicas, shards, as_json)


@app.command("recipe")
def of_recipe(
    recipe: Annotated[Path, typer.Argument(help="recipe whose log is ingested")],
    users: Users = None,
    replicas: Replicas = 0,
    shards: Shards = 1,
    as_json: AsJson = False,
    runs: Annotated[Path, typer.Option(envvar="ABSORB_RUNS_DIR", help="folder of all runs")] = Path(
        "var/runs"
    ),
) -> None:
    """Of a recipe whose log is ingested; nothing need be trained."""
    from builder.ingest.events import Events
    from builder.recipe.recipe import load_recipe
    from builder.run_folder import RunFolder

    loaded = load_recipe(recipe)
    folder = RunFolder(runs / loaded.name)
    if "ingest" not in folder.stamps():
        raise StepError(
            f"plan: the log of {recipe} is not ingested, so its users are not known: run `python -m builder ingest "
            f"{recipe}`, or give numbers to `plan numbers`"
        )
    events = Events.load(folder.events)
    id_bytes = round(sum(len(user.encode()) for user in events.user_ids) / events.num_users)
    item_fields = torch.from_numpy(events.item_fields.astype("int64"))
    model = build_model(loaded.model.name, events.schema, item_fields, loaded.model.config)
    load = load_of_spec(
        loaded.serve_as, users or events.num_users, model.state_spec(),
        events.schema.recent_length, id_bytes,
    )  # fmt: skip
    _show(load, replicas, shards, as_json)


@app.command("numbers")
def of_numbers(
    users: SomeUsers,
    record: Annotated[int | None, typer.Option("--bytes", min=1, help="of a record")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="r of LREA's two r × d tensors")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="d of LREA's two r × d tensors")] = None,
    replicas: Replicas = 0,
    shards: Shards = 1,
    as_json: AsJson = False,
) -> None:
    """Of --users with records of --bytes, or with LREA's of --rank × --dim."""
    if record is not None and rank is None and dim is None:
        load = load_of_bytes("model", users, {"any": record}, USER_ID_BYTES)
    elif record is None and rank is not None and dim is not None:
        spec = tuple(TensorSpec(name, (rank, dim)) for name in ("compressed", "absorbed"))
        load = load_of_spec("lrea", users, spec, RECENT, USER_ID_BYTES)
    else:
        raise typer.BadParameter("expected --bytes, or both --rank and --dim")
    _show(load, replicas, shards, as_json)


def _of_artifact(name: str, artifact: Artifact, users: int) -> Load:
    manifest = artifact.manifest
    recent = manifest.schema.recent_length
    return load_of_spec(name, users, manifest.state_spec, recent, USER_ID_BYTES)


def _show(load: Load, replicas: int, shards: int, as_json: bool) -> None:
    needs = make_plan(load, replicas, shards)
    if as_json:
        told = {"replicas": replicas, "shards": shards, "needs": [asdict(one) for one in needs]}
        console.print_json(json.dumps({**asdict(load), **told}))
    else:
        console.print(plan_table(load, needs, replicas, shards))
        console.print(explanation(load), soft_wrap=True, highlight=False)
