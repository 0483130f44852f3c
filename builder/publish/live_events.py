"""Live events and a publish: the new generation is announced to the workers, and caught up before it serves.

    1  write `coming_key`: workers fold events into the new generation, too, as its records appear
    2  write and verify the records
    3  catch up: fold what came since the build's cut, from the users' logs
    4  flip; a worker that sees it catches up once more

What came between the third step and the moment in which a worker sees the flip is folded by that worker: it begins to
follow each generation by catching up. Without a worker, what came after the third step waits for the next publish.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from builder.export.session import open_graph, run_graph
from builder.publish.cache import CacheClient, cache_errors
from models.contract.artifact import ENCODE, EVENT, Artifact
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.contract.generation import Generation, Pointer
from models.live.catch_up import Caught, catch_up
from models.live.choose import choose_folder
from models.live.fold import Encode
from models.live.keys import coming_key
from models.live.new_items import NewItems, registered
from models.live.refold import Target

COMING_TTL_S = 86_400
"""After this, workers forget a publish whose builder was killed."""
CatchUp = Callable[[Generation, Callable[[], bool]], object]
"""Folds live events into a generation that is written and does not serve yet, while the second argument is true."""
logger = logging.getLogger(__name__)


def catch_up_with(client: CacheClient, artifact: Artifact) -> CatchUp:
    """A `CatchUp` with an artifact's encode graph, which is opened only if there are live events."""

    def run(generation: Generation, still_right: Callable[[], bool]) -> Caught:
        target = _target(artifact, generation, _new_items(client))
        with cache_errors(client):
            caught = catch_up(client, target, still_right)
        if caught.users:
            template = "model %s: folded live events of %d users into %s, %d records written"
            name = generation.name
            logger.info(template, generation.model, caught.users, name, caught.written)
        for user, reason in caught.failed.items():
            logger.warning("model %s: user %r: %s", generation.model, user, reason)
        return caught

    return run


def _new_items(client: CacheClient) -> NewItems:
    """The registered items; none if they cannot be read, and then the worker folds their events once more."""
    try:
        with cache_errors(client):
            return registered(client)
    except AbsorbError as error:
        logger.warning(
            "new items cannot be read: their events count as those of unknown items: %s", error
        )
        return NewItems()


def _target(artifact: Artifact, generation: Generation, new_items: NewItems) -> Target:
    manifest = artifact.manifest
    encode = _encoder(artifact, ENCODE)
    event = _encoder(artifact, EVENT) if EVENT in manifest.files else None
    folder = choose_folder(manifest, encode, event)
    rows, spec = artifact.vocabulary.item_rows, manifest.state_spec
    new_rows = new_items.rows_for(artifact.vocabulary)
    return Target(generation, manifest.schema, spec, rows, folder, new_rows=new_rows)


def _encoder(artifact: Artifact, name: str) -> Encode:
    session = open_graph(artifact.graph(name))
    return lambda feed: run_graph(session, dict(feed))


@contextmanager
def announced(client: CacheClient, generation: Generation) -> Iterator[None]:
    """Tell the workers that a generation is coming, inside the block."""
    key = coming_key(generation.model)
    with cache_errors(client):
        client.set(key, Pointer(generation, None).to_bytes(), ex=COMING_TTL_S)
    try:
        yield
    finally:
        with suppress(CacheUnavailableError), cache_errors(client):
            client.unlink(key)
