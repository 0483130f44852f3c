"""An artifact: everything needed to encode and score with one trained model, named by the hash of its content.

A folder `<artifacts>/<artifact_id>/` with

    manifest.json       description of the artifact, and the sha256 of every other file
    weights.safetensors torch weights
    encode.onnx         history, profile -> state           (builder's precompute, service's cold start)
    score.onnx          state, context, slate -> logits     (service)
    vocabulary.json     raw ids <-> dense ids
    item_texts.txt      display text of each item, for people; optional, and read only on request
    example_slate.json  candidates of one real request, for the demo; optional, and read only on request
    calibration.json    logits -> calibrated log odds; optional (`calibration.py`)
    plan.safetensors    the score graph's weights for other engines; optional (`plan.py`)

No file is a pickle, and no graph keeps data outside its own bytes (`onnx_graph.py`). The folder is written under
another name and then renamed, so that a partly written artifact is never visible.

A file may change after it was verified. Therefore content is used only through `Artifact.read`, which hashes the very
bytes that it returns: a session, a vocabulary or a calibration is made of what the manifest names, or not at all. Files
that the manifest does not name are never opened.
"""

import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from models.contract.age import require_gap
from models.contract.calibration import CALIBRATION, Calibration, calibration_from_bytes
from models.contract.errors import ArtifactError, ArtifactMissingError, ArtifactTamperedError, shown
from models.contract.example_slate import EXAMPLE_SLATE, ExampleSlate
from models.contract.generation import ARTIFACT_ID
from models.contract.item_texts import ITEM_TEXTS, texts_from_bytes
from models.contract.onnx_graph import MAX_GRAPH_BYTES, require_self_contained
from models.contract.plan import PLAN, ItemSlotsPlan, plan_from_bytes
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.contract.strict_json import read_json
from models.contract.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ENCODE = "encode.onnx"
SCORE = "score.onnx"
VOCABULARY = "vocabulary.json"
FILES = (WEIGHTS, ENCODE, SCORE, VOCABULARY)
EVENT = "event.onnx"
"""The encode graph of histories of one event, for states that are sums (`TensorSpec.folds`)."""
OPTIONAL_FILES = (ITEM_TEXTS, EXAMPLE_SLATE, CALIBRATION, PLAN, EVENT)
"""Files that an artifact may lack, as older ones do."""
FORMAT = 2
"""Version of the layout of an artifact. A service that knows 1 alone could not read the records of a spec with
`TensorSpec.filled`, and goes on with the generation that it has."""
READ_FORMATS = (1, FORMAT)
"""Versions that are read. In 1, every row of every tensor is stored."""
STAGED = ".staged-"
"""Prefix of a folder that is being written."""
MAX_MANIFEST_BYTES = 16 << 20
MAX_FILE_BYTES = MAX_GRAPH_BYTES
"""Longest file that is read into memory."""


@dataclass(frozen=True)
class Manifest:
    """The description of an artifact.

    Attributes:
        model: name of the model in the registry, for example "lrea".
        config: the model's config, as a plain dict.
        schema: the model's inputs.
        state_spec: names and shapes of one user's state, in the order of the record.
        report: metrics on the test period.
        recipe: the whole recipe of the build.
        code_revision: version of the builder's code, and its Git commit where it ran from a clone.
        onnx_difference: largest absolute difference of a score (probability) between the ONNX graphs and torch.
        as_of_s: epoch second of the last event of the log.
        files: file name -> sha256.
        format: version of the layout.
        request_gap_s: from a user's newest event to when folded states measure ages; 0 in older artifacts.
    """

    model: str
    config: dict[str, Any]
    schema: FeatureSchema
    state_spec: StateSpec
    report: dict[str, Any]
    recipe: dict[str, Any]
    code_revision: str
    onnx_difference: float
    as_of_s: int
    files: dict[str, str]
    format: int = FORMAT
    request_gap_s: int = 0

    @property
    def artifact_id(self) -> str:
        """Hash of the manifest, which holds the hash of every file; 32 hex digits."""
        return _artifact_id(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The manifest as JSON. Keys are sorted, so that equal manifests give equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, raw: bytes, path: str) -> "Manifest":
        """Inverse of `to_bytes`.

        Raises:
            ArtifactError: the bytes are not a manifest of this format.
        """
        try:
            fields = read_json(raw)
            if fields["format"] not in READ_FORMATS:
                raise ArtifactError(
                    f"artifact: {path} has format {fields['format']}, expected one of {READ_FORMATS}"
                )
            hashes = fields["files"].values()
            if not all(isinstance(value, str) for value in hashes):
                raise ValueError(f"files: got {shown(fields['files'])}, expected name -> sha256")
            require_gap(fields.get("request_gap_s", 0))
            fields["schema"] = FeatureSchema.from_json(fields["schema"])
            fields["state_spec"] = tuple(
                TensorSpec(
                    spec["name"],
                    tuple(spec["shape"]),
                    spec.get("kind", "float"),
                    spec.get("filled", "all"),
                    spec.get("ids", "any"),
                    spec.get("folds", ""),
                )
                for spec in fields["state_spec"]
            )
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"artifact: {path} is not a manifest: {error!r}") from error


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk, whose files were checked against its manifest.

    Attributes:
        path: folder of the artifact.
        manifest: its description.
        vocabulary: raw ids <-> dense ids.
    """

    path: Path
    manifest: Manifest
    vocabulary: Vocabulary

    @property
    def artifact_id(self) -> str:
        """Content hash, 32 hex digits."""
        return self.path.name

    @property
    def log_schema(self) -> FeatureSchema:
        """The schema of the log that the model was trained on, whose catalogue has no prototypes."""
        return replace(self.manifest.schema, num_items=self.vocabulary.first_prototype)

    def file(self, name: str) -> Path:
        """Path of one of `FILES`. What is read from there was not verified: use `read` or `graph`."""
        return self.path / name

    def read(self, name: str) -> bytes:
        """Content of one of the manifest's files. Reads the file at each call, and hashes the bytes that it returns.

        Raises:
            ArtifactMissingError: the file was removed after the artifact was loaded.
            ArtifactTamperedError: it was changed after the artifact was loaded.
            ArtifactError: it cannot be read, or is longer than `MAX_FILE_BYTES`.
        """
        return _read_verified(self.path / name, self.manifest.files[name])

    def graph(self, name: str) -> bytes:
        """`ENCODE` or `SCORE`, for a session. Release the bytes once the session is there.

        Raises:
            ArtifactError: as `read`; or the graph keeps data outside its own bytes, or is no ONNX model.
        """
        raw = self.read(name)
        require_self_contained(raw, str(self.file(name)))
        return raw

    def item_texts(self) -> dict[str, str]:
        """Item id -> display text, for the items that have one. Reads the file at each call.

        Raises:
            ArtifactError: as `read`.
        """
        if ITEM_TEXTS not in self.manifest.files:
            return {}
        texts = texts_from_bytes(self.read(ITEM_TEXTS))
        pairs = zip(self.vocabulary.items, texts, strict=True)
        return {item: text for item, text in pairs if text is not None}

    def calibration(self) -> Calibration | None:
        """How logits become calibrated log odds; None: as they are. Reads the file at each call.

        Raises:
            ArtifactError: as `read`; or the file is not a calibration.
        """
        if CALIBRATION not in self.manifest.files:
            return None
        try:
            return calibration_from_bytes(self.read(CALIBRATION))
        except ValueError as error:
            raise ArtifactError(f"artifact: {self.file(CALIBRATION)}: {error}") from error

    def plan(self) -> ItemSlotsPlan | None:
        """Weights for engines other than ONNX Runtime; None if the artifact has none. Reads the file at each call.

        Raises:
            ArtifactError: as `read`; or the file is not a plan, or not the one of this artifact's score graph.
        """
        if PLAN not in self.manifest.files:
            return None
        plan, manifest = plan_from_bytes(self.read(PLAN)), self.manifest
        plan.check(manifest.schema, manifest.state_spec, manifest.files[SCORE])
        return plan

    def example_slate(self) -> ExampleSlate | None:
        """The candidates of a real request; None if the artifact has none. Reads the file at each call.

        Raises:
            ArtifactError: as `read`.
        """
        if EXAMPLE_SLATE not in self.manifest.files:
            return None
        return ExampleSlate.from_bytes(self.read(EXAMPLE_SLATE))


def save_artifact(root: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Artifact:
    """Write an artifact under `root`, unless it is there already, and load it.

    Args:
        root: folder of all artifacts; created if it does not exist.
        manifest: its `files` is replaced by the hashes of `contents`.
        contents: file name -> bytes, for every name of `FILES`, and for any of `OPTIONAL_FILES`.

    Raises:
        ValueError: the vocabulary does not fit the schema, or the item texts do not fit the vocabulary.
    """
    names = [*FILES, *(name for name in OPTIONAL_FILES if name in contents)]
    hashes = {name: hashlib.sha256(contents[name]).hexdigest() for name in names}
    manifest = replace(manifest, files=hashes)
    vocabulary = Vocabulary.from_bytes(contents[VOCABULARY])
    vocabulary.check(manifest.schema)
    if ITEM_TEXTS in contents:
        _check_item_texts(contents[ITEM_TEXTS], vocabulary)
    root.mkdir(parents=True, exist_ok=True)
    if not (root / manifest.artifact_id).exists():
        files = {name: contents[name] for name in names}
        _write_folder(root, manifest.artifact_id, {**files, MANIFEST: manifest.to_bytes()})
    return load_artifact(root, manifest.artifact_id)


def load_artifact(root: Path, artifact_id: str) -> Artifact:
    """Read and verify an artifact. Memory holds the vocabulary; the other files are hashed piece by piece.

    The plan is hashed when it is read: without it, or with a torn one, the artifact is scored by its graph.

    Raises:
        ArtifactMissingError: the folder or one of its files is missing.
        ArtifactTamperedError: the hash of a file differs from the manifest, or the manifest's from the folder's name.
        ArtifactError: the id is not 32 hex digits, or the manifest or the vocabulary cannot be read.
    """
    if not ARTIFACT_ID.fullmatch(artifact_id):
        raise ArtifactError(f"artifact id: got {shown(artifact_id)}, expected 32 hex digits")
    path = root / artifact_id
    raw = _read(path / MANIFEST, MAX_MANIFEST_BYTES)
    got = _artifact_id(raw)
    if got != artifact_id:
        raise ArtifactTamperedError(str(path / MANIFEST), artifact_id, got)
    manifest = Manifest.from_bytes(raw, str(path / MANIFEST))
    _check_files(manifest.files, str(path / MANIFEST))
    for name in sorted(manifest.files.keys() - {VOCABULARY, PLAN}):
        _verify(path / name, manifest.files[name])
    words = _read_verified(path / VOCABULARY, manifest.files[VOCABULARY])
    try:
        vocabulary = Vocabulary.from_bytes(words)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"artifact: {path / VOCABULARY} is not a vocabulary: {error}"
        ) from error
    _note_unnamed_files(path, manifest)
    return Artifact(path, manifest, vocabulary)


def _check_files(names: Collection[str], path: str) -> None:
    """Raise ArtifactError unless a manifest names files of this version, all that an artifact needs among them."""
    if not set(FILES) <= set(names) <= {*FILES, *OPTIONAL_FILES}:
        raise ArtifactError(
            f"artifact: {path}, files: got {shown(sorted(names))}, expected all of {FILES} and any of {OPTIONAL_FILES}"
        )


def _note_unnamed_files(path: Path, manifest: Manifest) -> None:
    with suppress(OSError):  # the folder may be readable, but not listable
        unnamed = sorted({file.name for file in path.iterdir()} - {MANIFEST, *manifest.files})
        if unnamed:
            text = "%s: its manifest does not name %s; they are not read"
            logger.warning(text, path, ", ".join(map(shown, unnamed)))


def _check_item_texts(raw: bytes, vocabulary: Vocabulary) -> None:
    got, expected = len(texts_from_bytes(raw)), len(vocabulary.items)
    if got != expected:
        raise ValueError(f"item texts: got {got}, expected {expected}, one per item")


def _artifact_id(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:32]


def _read_verified(path: Path, expected: str) -> bytes:
    raw = _read(path, MAX_FILE_BYTES)
    _check_hash(path, expected, hashlib.sha256(raw).hexdigest())
    return raw


def _verify(path: Path, expected: str) -> None:
    with _open(path) as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    _check_hash(path, expected, got)


def _check_hash(path: Path, expected: str, got: str) -> None:
    if got != expected:
        raise ArtifactTamperedError(str(path), expected, got)


def _read(path: Path, most: int) -> bytes:
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ArtifactError(f"artifact: {path} has {size} bytes, expected at most {most}")
        return file.read(size)


@contextmanager
def _open(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file, or a link to one: what it holds is hashed, wherever it lies."""
    try:
        # A pipe would block until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArtifactError(f"artifact: {path} cannot be read: expected a regular file")
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissingError(str(path)) from error
    except OSError as error:
        raise ArtifactError(f"artifact: {path} cannot be read: {error}") from error


def _write_folder(root: Path, name: str, files: Mapping[str, bytes]) -> None:
    staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=root))
    try:
        # With mkdtemp's 0700, a service that runs as another user could not read the artifact.
        staged.chmod(0o755)
        for file, content in files.items():
            _write_durably(staged / file, content)
        try:
            staged.rename(root / name)
        except OSError:
            # If the folder exists, another builder wrote the same content first.
            if not (root / name).exists():
                raise
        _sync_folder(root)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    """Make sure that a rename in the folder survives a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
