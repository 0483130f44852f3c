"""New items of a cache, from the builder's side: which fields they may have, and which of them every build knows."""

import logging
from collections.abc import Iterator
from pathlib import Path

from builder.publish.cache import CacheClient, cache_errors
from builder.publish.generations import read_pointer
from models.contract.artifact import load_artifact
from models.contract.errors import AbsorbError, ArtifactError
from models.contract.generation import MODELS_KEY, Pointer, model_names
from models.contract.vocabulary import Vocabulary
from models.live.new_items import drop_items, registered

logger = logging.getLogger(__name__)


def known_fields(client: CacheClient, artifacts: Path) -> dict[str, list[str]]:
    """Item field -> models that serve and have it.

    Args:
        client: the cache.
        artifacts: folder of all artifacts; a model whose artifact is not there is left out.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    found: dict[str, list[str]] = {}
    for model, pointer in _pointers(client):
        try:
            prototypes = _vocabulary(artifacts, pointer.current.artifact_id).prototypes
        except ArtifactError as error:
            logger.warning("fields of model %s are not known: %s", model, error)
            continue
        for name in prototypes.fields if prototypes else ():
            found.setdefault(name, []).append(model)
    return found


def drop_known(client: CacheClient, artifacts: Path) -> int:
    """Remove the new items that every model knows, in both its generations: a rollback must not lose an item.

    Args:
        client: the cache.
        artifacts: folder of all artifacts. If one of them is not there, or cannot be read, no item is removed.

    Returns:
        How many were removed.
    """
    try:
        with cache_errors(client):
            known = set(registered(client).items)
        for _, pointer in _pointers(client) if known else ():
            for generation in filter(None, (pointer.current, pointer.previous)):
                known &= set(_vocabulary(artifacts, generation.artifact_id).items)
        with cache_errors(client):
            return drop_items(client, sorted(known))
    except AbsorbError as error:
        logger.warning("new items that builds know by now are kept: %s", error)
        return 0


def _pointers(client: CacheClient) -> Iterator[tuple[str, Pointer]]:
    with cache_errors(client):
        names = model_names(client.smembers(MODELS_KEY))
    for name in names:
        pointer, _ = read_pointer(client, name)
        if pointer is not None:
            yield name, pointer


def _vocabulary(artifacts: Path, artifact_id: str) -> Vocabulary:
    return load_artifact(artifacts, artifact_id).vocabulary
