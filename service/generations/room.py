"""Bounds of what is loaded: the number of artifacts and their bytes on disk, over all models of one process."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.contract.artifact import ENCODE, SCORE, VOCABULARY
from models.contract.errors import GenerationError
from models.contract.generation import Generation, pointer_key
from models.contract.plan import PLAN

LOADED_FILES = (ENCODE, SCORE, VOCABULARY, PLAN)
"""Files of an artifact that its load reads into memory; most of them stay there, as graph or plan."""


@dataclass(frozen=True)
class Room:
    """What one process may load.

    Attributes:
        artifact_dir: folder that holds the artifacts.
        max_artifacts: most artifacts loaded at a time, those of records that are being overwritten included.
        max_bytes: most bytes of their files, as a measure of their memory.
    """

    artifact_dir: Path
    max_artifacts: int
    max_bytes: int

    def models_to_evict(
        self, new: Generation, loaded: Mapping[str, Generation], published: Collection[str]
    ) -> list[str]:
        """Models to unload before `new` is loaded: of those that are not published any more, the oldest first.

        Args:
            new: the generation to load; what it replaces is not counted.
            loaded: model -> the generation that serves it now.
            published: the published models, which are never unloaded for another.

        Raises:
            GenerationError: there is no room for it, even without the models that are not published any more.
        """
        others = {model: kept for model, kept in loaded.items() if model != new.model}
        gone = [model for model in others if model not in published]
        gone.sort(key=lambda model: others[model].created_s)
        evicted: list[str] = []
        while problem := self._problem(new, others.values()):
            if not gone:
                raise GenerationError(pointer_key(new.model), problem)
            evicted.append(gone.pop(0))
            del others[evicted[-1]]
        return evicted

    def _problem(self, new: Generation, others: Collection[Generation]) -> str:
        """Why there is no room; empty if there is."""
        ids = _artifact_ids(new)
        loaded = [made for kept in others for made in _artifact_ids(kept)]
        if len(loaded) + len(ids) > self.max_artifacts:
            return (
                f"{new.name} needs {len(ids)} artifacts beside the {len(loaded)} of other models, expected at most "
                f"{self.max_artifacts} in all (ABSORB_MAX_ARTIFACTS); unload a model"
            )
        needed, held = self._bytes(ids), self._bytes(loaded)
        if needed + held > self.max_bytes:
            return (
                f"{new.name} has {needed} bytes beside the {held} of other models, expected at most {self.max_bytes} "
                "in all (ABSORB_MAX_ARTIFACT_BYTES); unload a model"
            )
        return ""

    def _bytes(self, artifact_ids: Collection[str]) -> int:
        return sum(
            _size(self.artifact_dir / made / name) for made in artifact_ids for name in LOADED_FILES
        )


def _artifact_ids(generation: Generation) -> list[str]:
    return [generation.artifact_id, *(overwritten.artifact_id for overwritten in generation.over)]


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is missing, which the loader says."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
