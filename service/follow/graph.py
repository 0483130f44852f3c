"""The artifacts that the worker folds with: their encode graphs on the CPU, and the folder that each allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from models.contract.artifact import ENCODE, EVENT, Artifact, load_artifact
from models.contract.generation import Generation
from models.contract.state_spec import Array
from models.live.choose import choose_folder
from models.live.fold import Encode, Folder
from models.live.new_items import NewItems, NewRows
from models.live.refold import Target


@dataclass(frozen=True)
class Loaded:
    """An artifact that states can be made with.

    Attributes:
        artifact: it.
        folder: makes states.
    """

    artifact: Artifact
    folder: Folder

    def target(
        self, generation: Generation, *, creates: bool, new_items: NewItems | None = None
    ) -> Target:
        """A generation of this artifact, whose records follow events, also those of registered new items."""
        manifest, vocabulary = self.artifact.manifest, self.artifact.vocabulary
        new_rows = NewRows() if new_items is None else new_items.rows_for(vocabulary)
        return Target(
            generation,
            manifest.schema,
            manifest.state_spec,
            vocabulary.item_rows,
            self.folder,
            creates,
            new_rows,
        )


def load_folder(root: Path, artifact_id: str) -> Loaded:
    """Load an artifact and open its encode graph.

    Raises:
        ArtifactError: it cannot be used.
    """
    artifact = load_artifact(root, artifact_id)
    encode = encoder(artifact.graph(ENCODE))
    event = encoder(artifact.graph(EVENT)) if EVENT in artifact.manifest.files else None
    return Loaded(artifact, choose_folder(artifact.manifest, encode, event))


def encoder(graph: bytes) -> Encode:
    """An encode graph on one core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}

    def encode(feed: Mapping[str, NDArray[Any]]) -> Sequence[Array]:
        # The exporter drops inputs that change no output.
        tensors: Sequence[Array] = session.run(
            None, {name: values for name, values in feed.items() if name in names}
        )
        return tensors

    return encode
