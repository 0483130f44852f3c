"""What one generation needs to score: loaded, checked, in one object."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import ArtifactError
from models.contract.generation import Generation
from models.contract.record import record_artifact
from service.generations.room import Room
from service.runtime.scorer import Scorer

log = logging.getLogger(__name__)
OpenScorer = Callable[[str, Artifact], Scorer]


@dataclass(frozen=True, eq=False)
class Serving:
    """Key prefix, artifact and scorer of one generation: a request uses one `Serving` from start to end.

    Two objects are never equal, even for the same generation, so nothing cached for one is used for the other.

    Attributes:
        generation: the generation that the pointer names.
        artifact: the generation's model.
        scorer: runs the artifact's score graph.
        older: artifact id -> what scores records of that artifact, while a rolling publish replaces them in place.
    """

    generation: Generation
    artifact: Artifact
    scorer: Scorer
    older: Mapping[str, "Serving"] = field(default_factory=dict)

    def maker_of(self, raw: bytes) -> "Serving":
        """The `Serving` whose artifact made a record, which alone may score it; this one if no older one did."""
        return self.older.get(record_artifact(raw) or "", self) if self.older else self


class Loader:
    """Loads generations in a thread of its own, so that loading never occupies a thread that scores."""

    def __init__(self, artifact_dir: Path, open_scorer: OpenScorer, room: Room) -> None:
        """Start no thread yet.

        Args:
            artifact_dir: folder that holds the artifacts.
            open_scorer: opens the scorer of an artifact, given the model's name.
            room: bounds of what is loaded, which the follower asks before each load.
        """
        self.room = room
        self._artifact_dir = artifact_dir
        self._open_scorer = open_scorer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def load(self, generation: Generation, old: Serving | None) -> Serving:
        """As `load_serving`.

        Raises:
            ArtifactError: the artifact is missing, was altered, or cannot score.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, load_serving, self._artifact_dir, generation, self._open_scorer, old
        )

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def load_serving(
    artifact_dir: Path, generation: Generation, open_scorer: OpenScorer, old: Serving | None
) -> Serving:
    """Load and verify what a generation needs; artifacts that `old` has loaded are reused.

    The artifact of records that are being overwritten may be missing: until they are overwritten, their users are
    scored from the cold-start state.

    Args:
        artifact_dir: folder that holds the artifacts.
        generation: the generation to load.
        open_scorer: opens the scorer of an artifact, given the model's name.
        old: what serves this model now; None: nothing does.

    Raises:
        ArtifactError: the generation's artifact is missing, was altered, or cannot score.
    """
    serving_now = (old, *old.older.values()) if old else ()
    loaded = {serving.generation.artifact_id: serving for serving in serving_now}
    older = {}
    for replaced in generation.over:
        name, artifact_id = replaced.name, replaced.artifact_id
        maker = replace(generation, name=name, artifact_id=artifact_id, slot=generation.place)
        try:
            older[artifact_id] = _load(artifact_dir, maker, open_scorer, loaded)
        except ArtifactError as error:
            log.warning(
                "records that are being overwritten cannot be scored", extra={"error": str(error)}
            )
    return replace(_load(artifact_dir, generation, open_scorer, loaded), older=older)


def _load(
    artifact_dir: Path,
    generation: Generation,
    open_scorer: OpenScorer,
    loaded: Mapping[str, Serving],
) -> Serving:
    if same := loaded.get(generation.artifact_id):
        return Serving(generation, same.artifact, same.scorer)
    artifact = load_artifact(artifact_dir, generation.artifact_id)
    try:
        artifact.vocabulary.check(artifact.manifest.schema)
    except ValueError as error:
        raise ArtifactError(f"artifact: {artifact.path}: {error}") from error
    return Serving(generation, artifact, open_scorer(generation.model, artifact))
