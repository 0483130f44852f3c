"""Records become a new generation, in the recipe's mode."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from builder.progress import Progress, silent
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import new_generation
from builder.publish.live_events import catch_up_with
from builder.publish.pace import Pace
from builder.publish.records import Records
from builder.publish.rolling import publish_in_place
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact
from models.contract.generation import Generation


@dataclass(frozen=True)
class Packed:
    """Packed records of one build.

    Attributes:
        records: of every user.
        histories: base histories; None: states do not follow events.
        users: number of users.
        as_of_s: epoch second up to which events are in the states.
    """

    records: Records
    histories: Records | None
    users: int
    as_of_s: int


def send(
    cache_url: str, recipe: Recipe, artifact: Artifact, packed: Packed, progress: Progress = silent
) -> Generation:
    """Publish records, and base histories if there are any, as a new generation.

    Args:
        cache_url: the cache.
        recipe: name of the model, dtype, mode.
        artifact: made the records.
        packed: the records.
        progress: called for records that are written.
    """
    client, rule = connect_cache(cache_url), recipe.publish
    generation = new_generation(
        recipe.serve_as,
        artifact.artifact_id,
        packed.users,
        packed.as_of_s,
        recipe.cache.dtype,
        datetime.now(UTC),
    )
    spec = artifact.manifest.state_spec
    pace = Pace(packed.users, 1 if packed.histories is None else 2, progress)
    follow = None if packed.histories is None else catch_up_with(client, artifact)
    write: Callable[..., object] = publish
    if rule.mode == "rolling":
        write = partial(publish_in_place, wait_s=rule.wait_s)
    more = {"histories": packed.histories, "catch_up": follow, "progress": pace.add}
    write(client, generation, packed.records, spec, **more)
    return generation
