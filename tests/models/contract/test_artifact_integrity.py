"""What is used of an artifact is what its manifest names, also when files change after they were verified."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from models.contract.artifact import (
    ENCODE,
    FILES,
    MANIFEST,
    SCORE,
    VOCABULARY,
    WEIGHTS,
    Artifact,
    Manifest,
    load_artifact,
)
from models.contract.calibration import CALIBRATION, Temperature
from models.contract.errors import ArtifactError, ArtifactMissingError, ArtifactTamperedError
from models.contract.example_slate import EXAMPLE_SLATE, ExampleSlate
from models.contract.item_texts import ITEM_TEXTS
from tests.service.toy import Toy

FULL = Toy(
    texts={"i1": "Milk"},
    slate=ExampleSlate(["i1"], {}),
    calibration=Temperature(1.0, 0.0),
)
READERS = {
    ITEM_TEXTS: Artifact.item_texts,
    EXAMPLE_SLATE: Artifact.example_slate,
    CALIBRATION: Artifact.calibration,
    SCORE: lambda artifact: artifact.graph(SCORE),
    ENCODE: lambda artifact: artifact.graph(ENCODE),
    WEIGHTS: lambda artifact: artifact.read(WEIGHTS),
    VOCABULARY: lambda artifact: artifact.read(VOCABULARY),
}
"""File -> what reads it after the artifact was verified."""


def rewritten(artifact: Artifact, old: bytes, new: bytes) -> str:
    """Id of a copy of the artifact whose manifest has other bytes, under the hash that these have."""
    raw = artifact.file(MANIFEST).read_bytes()
    assert raw.count(old) == 1
    artifact_id = hashlib.sha256(raw.replace(old, new)).hexdigest()[:32]
    artifact.path.rename(artifact.path.parent / artifact_id)
    (artifact.path.parent / artifact_id / MANIFEST).write_bytes(raw.replace(old, new))
    return artifact_id


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_changes_after_it_was_verified_is_refused_when_it_is_read(
    tmp_path: Path, name: str
):
    artifact = load_artifact(tmp_path, FULL.save(tmp_path).artifact_id)
    artifact.file(name).write_bytes(artifact.file(name).read_bytes() + b" ")

    with pytest.raises(ArtifactTamperedError, match=f"{name} has hash"):
        READERS[name](artifact)


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_goes_after_it_was_verified_is_named(tmp_path: Path, name: str):
    artifact = load_artifact(tmp_path, FULL.save(tmp_path).artifact_id)
    artifact.file(name).unlink()

    with pytest.raises(ArtifactMissingError, match=f"{name} is missing"):
        READERS[name](artifact)


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    artifact_id = Toy().save(tmp_path).artifact_id
    opened: list[str] = []
    open_file = os.open

    def counted(path: Path, flags: int) -> int:
        opened.append(path.name)
        return open_file(path, flags)

    monkeypatch.setattr("models.contract.artifact.os.open", counted)

    load_artifact(tmp_path, artifact_id)

    assert sorted(opened) == sorted([MANIFEST, *FILES])


@pytest.mark.parametrize("name", [*READERS, MANIFEST])
def test_a_pipe_in_a_files_place_is_refused_and_nobody_waits_for_it(tmp_path: Path, name: str):
    artifact = FULL.save(tmp_path)
    artifact.file(name).unlink()
    os.mkfifo(artifact.file(name))

    with pytest.raises(ArtifactError, match=f"{name} cannot be read: expected a regular file"):
        load_artifact(tmp_path, artifact.artifact_id)


def test_a_device_in_a_files_place_is_refused(tmp_path: Path):
    artifact = Toy().save(tmp_path)
    artifact.file(WEIGHTS).unlink()
    artifact.file(WEIGHTS).symlink_to("/dev/zero")

    with pytest.raises(ArtifactError, match="expected a regular file"):
        load_artifact(tmp_path, artifact.artifact_id)


def test_a_link_counts_by_what_it_leads_to(tmp_path: Path):
    artifact, elsewhere = Toy().save(tmp_path / "root"), tmp_path / "elsewhere"
    artifact.file(SCORE).rename(elsewhere)
    artifact.file(SCORE).symlink_to(elsewhere)

    loaded = load_artifact(tmp_path / "root", artifact.artifact_id)
    elsewhere.write_bytes(Toy(seed=1).score_graph())

    with pytest.raises(ArtifactTamperedError):
        loaded.graph(SCORE)
    elsewhere.unlink()
    with pytest.raises(ArtifactMissingError):
        load_artifact(tmp_path / "root", artifact.artifact_id)


def test_files_that_the_manifest_does_not_name_are_reported_and_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    artifact = Toy().save(tmp_path)
    os.mkfifo(artifact.file("w.bin"))  # opening it would block

    with caplog.at_level(logging.WARNING):
        load_artifact(tmp_path, artifact.artifact_id)

    (record,) = caplog.records
    assert "its manifest does not name 'w.bin'; they are not read" in record.getMessage()


@pytest.mark.parametrize("name", ["../score.onnx", "/etc/passwd", "w.bin", "", "a/../score.onnx"])
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, name: str):
    artifact_id = rewritten(
        Toy().save(tmp_path), b'"files": {', b'"files": {"%s": "",' % name.encode()
    )

    with pytest.raises(ArtifactError, match=r"files: got .*, expected all of .* and any of"):
        load_artifact(tmp_path, artifact_id)


@pytest.mark.parametrize(
    "files", [b"{}", b"[]", b"null", b'"x"', b'{"score.onnx": 1}', b'{"score.onnx": "x"}']
)
def test_a_manifest_that_lacks_files_is_refused(tmp_path: Path, files: bytes):
    artifact = Toy().save(tmp_path)
    raw = artifact.file(MANIFEST).read_bytes()
    old = raw[raw.index(b'"files": {') : raw.index(b"}", raw.index(b'"files": {')) + 1]

    with pytest.raises(ArtifactError, match="manifest"):
        load_artifact(tmp_path, rewritten(artifact, old, b'"files": ' + files))


def test_a_manifest_whose_hash_is_no_text_is_refused(tmp_path: Path):
    artifact = Toy().save(tmp_path)
    old = b'"' + artifact.manifest.files[SCORE].encode() + b'"'

    with pytest.raises(ArtifactError, match="expected name -> sha256"):
        load_artifact(tmp_path, rewritten(artifact, old, b'["x"]'))


def test_a_manifest_that_says_a_thing_twice_is_refused(tmp_path: Path):
    artifact_id = rewritten(Toy().save(tmp_path), b'"files": {', b'"files": {"score.onnx": "",')

    with pytest.raises(ArtifactError, match=r"got the key 'score\.onnx' twice"):
        load_artifact(tmp_path, artifact_id)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_manifest_that_nests_deeply_is_refused(raw: bytes):
    with pytest.raises(ArtifactError, match="nested too deeply"):
        Manifest.from_bytes(raw, "the-path")


NO_VOCABULARIES = [
    b"",
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b'{"items": 5, "user": {}, "context": {}}',
    b'{"items": ["a"], "items": ["b"], "user": {}, "context": {}}',
    b'{"items": [["a"]], "user": {}, "context": {}}',
    b'{"items": [1], "user": {}, "context": {}}',
    b'{"items": [], "user": [], "context": {}}',
]


@pytest.mark.parametrize("raw", NO_VOCABULARIES)
def test_a_vocabulary_that_is_none_is_refused(tmp_path: Path, raw: bytes):
    artifact = Toy().save(tmp_path)
    old = artifact.manifest.files[VOCABULARY].encode()
    artifact.file(VOCABULARY).write_bytes(raw)
    artifact_id = rewritten(artifact, old, hashlib.sha256(raw).hexdigest().encode())

    with pytest.raises(ArtifactError, match=r"vocabulary\.json is not a vocabulary"):
        load_artifact(tmp_path, artifact_id)


@pytest.mark.parametrize(
    "artifact_id", ["", ".", "..", "../root", "/etc", "A" * 32, "a" * 31, "a\x00b"]
)
def test_an_id_that_is_none_leads_nowhere(tmp_path: Path, artifact_id: str):
    Toy().save(tmp_path / "root")

    with pytest.raises(ArtifactError, match=r"artifact id: got .*, expected 32 hex digits"):
        load_artifact(tmp_path / "root", artifact_id)


def test_a_longer_manifest_than_any_is_not_read_to_its_end(tmp_path: Path):
    artifact = Toy().save(tmp_path)
    with artifact.file(MANIFEST).open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no disk, and would take all memory

    with pytest.raises(ArtifactError, match=r"has \d+ bytes, expected at most"):
        load_artifact(tmp_path, artifact.artifact_id)
