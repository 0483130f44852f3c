import json
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from models.contract.artifact import (
    FILES,
    FORMAT,
    MANIFEST,
    STAGED,
    VOCABULARY,
    Manifest,
    load_artifact,
    save_artifact,
)
from models.contract.errors import ArtifactError, ArtifactMissingError, ArtifactTamperedError
from models.contract.item_texts import ITEM_TEXTS
from models.contract.schema import FeatureSchema, Field
from models.contract.state_spec import TensorSpec
from models.contract.vocabulary import Vocabulary

SCHEMA = FeatureSchema(
    item_fields=(Field("item", 4), Field("brand", 3)),
    user_fields=(Field("age", 3),),
    context_fields=(),
    num_items=4,
    history_length=16,
    recent_length=4,
)
WORDS = Vocabulary(items=["apple", "pêche"], user={"age": ["65+"]}, context={})
MANIFEST_OF_TINY = Manifest(
    model="lrea",
    config={"rank": 8, "hidden": [4, 2]},
    schema=SCHEMA,
    state_spec=(TensorSpec("rows", (8, 4)), TensorSpec("counts", (8,))),
    report={"auc": 0.75},
    recipe={"name": "tiny"},
    code_revision="unknown",
    onnx_difference=1e-7,
    as_of_s=1_700_000_000,
    files={},
)
CONTENTS = {name: name.encode() * 3 for name in FILES} | {VOCABULARY: WORDS.to_bytes()}


def save(root, **changes):
    return save_artifact(root, replace(MANIFEST_OF_TINY, **changes), CONTENTS)


def test_an_artifact_survives_a_round_trip(tmp_path):
    saved = save(tmp_path / "artifacts")

    loaded = load_artifact(tmp_path / "artifacts", saved.artifact_id)

    assert loaded == saved
    assert loaded.vocabulary == WORDS
    assert replace(loaded.manifest, files={}) == MANIFEST_OF_TINY
    assert {name: loaded.file(name).read_bytes() for name in FILES} == CONTENTS
    assert len(bytes.fromhex(loaded.artifact_id)) == 16
    assert loaded.path.stat().st_mode & 0o777 == 0o755


def test_the_id_depends_on_the_content_alone(tmp_path):
    one = save(tmp_path / "a")

    assert save(tmp_path / "b").artifact_id == one.artifact_id
    assert save(tmp_path / "c", as_of_s=1).artifact_id != one.artifact_id
    other = save_artifact(tmp_path / "d", MANIFEST_OF_TINY, CONTENTS | {FILES[0]: b"other"})
    assert other.artifact_id != one.artifact_id


def test_saving_twice_is_harmless(tmp_path):
    first = save(tmp_path)
    written_ns = (first.path / MANIFEST).stat().st_mtime_ns

    assert save(tmp_path) == first
    assert (first.path / MANIFEST).stat().st_mtime_ns == written_ns
    assert [path.name for path in tmp_path.iterdir()] == [first.artifact_id]


def test_concurrent_saves_make_one_artifact(tmp_path):
    start = threading.Barrier(8)

    def save_together(_: int):
        start.wait()
        return save(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        artifacts = list(pool.map(save_together, range(8)))

    assert {artifact.artifact_id for artifact in artifacts} == {artifacts[0].artifact_id}
    assert [path.name for path in tmp_path.iterdir()] == [artifacts[0].artifact_id]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(tmp_path, name):
    artifact = save(tmp_path)
    artifact.file(name).unlink()

    with pytest.raises(ArtifactMissingError, match=f"{name} is missing"):
        load_artifact(tmp_path, artifact.artifact_id)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ArtifactMissingError, match=r"f{32}/manifest\.json is missing"):
        load_artifact(tmp_path, "f" * 32)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_bit_is_refused(tmp_path, name):
    artifact = save(tmp_path)
    content = bytearray(artifact.file(name).read_bytes())
    content[len(content) // 2] ^= 1
    artifact.file(name).write_bytes(content)

    with pytest.raises(ArtifactTamperedError, match=f"{name} has hash"):
        load_artifact(tmp_path, artifact.artifact_id)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_an_emptied_file_is_refused(tmp_path, name):
    artifact = save(tmp_path)
    artifact.file(name).write_bytes(b"")

    with pytest.raises(ArtifactTamperedError, match=f"{name} has hash"):
        load_artifact(tmp_path, artifact.artifact_id)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_file_that_is_a_folder_is_refused(tmp_path, name):
    artifact = save(tmp_path)
    artifact.file(name).unlink()
    artifact.file(name).mkdir()

    with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
        load_artifact(tmp_path, artifact.artifact_id)


def test_a_manifest_changed_together_with_a_file_is_refused(tmp_path):
    artifact = save(tmp_path)
    fields = json.loads(artifact.file(MANIFEST).read_bytes())
    fields["report"]["auc"] = 0.99
    artifact.file(MANIFEST).write_text(json.dumps(fields))

    with pytest.raises(ArtifactTamperedError, match=f"the manifest expects {artifact.artifact_id}"):
        load_artifact(tmp_path, artifact.artifact_id)


def test_an_artifact_under_another_name_is_refused(tmp_path):
    artifact = save(tmp_path)
    artifact.path.rename(tmp_path / ("0" * 32))

    with pytest.raises(ArtifactTamperedError):
        load_artifact(tmp_path, "0" * 32)


def test_a_staged_folder_is_never_visible_as_an_artifact(tmp_path):
    """A builder that is killed just before the rename leaves all files under the staged name."""
    artifact = save(tmp_path)
    left = tmp_path / f"{STAGED}killed"
    artifact.path.rename(left)

    with pytest.raises(ArtifactMissingError):
        load_artifact(tmp_path, artifact.artifact_id)
    with pytest.raises(ArtifactError, match=r"artifact id: got '\.staged-killed'"):
        load_artifact(tmp_path, left.name)
    assert (
        save(tmp_path).artifact_id == artifact.artifact_id
    )  # the staged folder does not prevent the next save


def test_a_failed_save_leaves_nothing(tmp_path):
    large = CONTENTS | {FILES[1]: b"x" * 10_000}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))  # fails as a full disk does
    try:
        with pytest.raises(OSError, match="too large"):
            save_artifact(tmp_path, MANIFEST_OF_TINY, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list(tmp_path.iterdir())


def test_a_vocabulary_that_does_not_fit_the_schema_is_refused(tmp_path):
    with pytest.raises(ValueError, match="vocabulary, items: got 4, the schema expects 5"):
        save(tmp_path, schema=replace(SCHEMA, num_items=5))


def test_only_the_named_files_are_written(tmp_path):
    artifact = save_artifact(tmp_path, MANIFEST_OF_TINY, CONTENTS | {"extra.pkl": b"x"})

    assert {path.name for path in artifact.path.iterdir()} == {*FILES, MANIFEST}


TEXTS = CONTENTS | {ITEM_TEXTS: b"Apple, 1 lb\n\n"}


def test_item_texts_are_an_optional_file(tmp_path):
    without, with_texts = save(tmp_path), save_artifact(tmp_path, MANIFEST_OF_TINY, TEXTS)

    assert ITEM_TEXTS not in without.manifest.files
    assert without.item_texts() == {}
    assert load_artifact(tmp_path, with_texts.artifact_id).item_texts() == {"apple": "Apple, 1 lb"}
    assert without.artifact_id != with_texts.artifact_id


def test_item_texts_are_checked_like_the_other_files(tmp_path):
    artifact = save_artifact(tmp_path, MANIFEST_OF_TINY, TEXTS)

    artifact.file(ITEM_TEXTS).write_bytes(b"Poison\n\n")
    with pytest.raises(ArtifactTamperedError, match=ITEM_TEXTS):
        load_artifact(tmp_path, artifact.artifact_id)
    artifact.file(ITEM_TEXTS).unlink()
    with pytest.raises(ArtifactMissingError, match=ITEM_TEXTS):
        load_artifact(tmp_path, artifact.artifact_id)
    with pytest.raises(ArtifactMissingError, match=ITEM_TEXTS):
        artifact.item_texts()


def test_item_texts_must_be_one_per_item(tmp_path):
    with pytest.raises(ValueError, match="item texts: got 1, expected 2, one per item"):
        save_artifact(tmp_path, MANIFEST_OF_TINY, CONTENTS | {ITEM_TEXTS: b"Apple\n"})


def test_a_manifest_of_another_format_is_refused():
    fields = json.loads(MANIFEST_OF_TINY.to_bytes()) | {"format": FORMAT + 1}

    with pytest.raises(ArtifactError, match=f"has format {FORMAT + 1}, expected one of"):
        Manifest.from_bytes(json.dumps(fields).encode(), "the-path")


def test_a_manifest_of_format_1_stores_every_row():
    fields = json.loads(MANIFEST_OF_TINY.to_bytes()) | {"format": 1}
    for tensor in fields["state_spec"]:
        del tensor["filled"]

    old = Manifest.from_bytes(json.dumps(fields).encode(), "the-path")

    assert (old.format, old.state_spec) == (1, MANIFEST_OF_TINY.state_spec)
    assert {tensor.filled for tensor in old.state_spec} == {"all"}


def test_a_manifest_says_what_ids_are_and_one_of_before_does_not():
    spec = (TensorSpec("items", (8,), "int32", ids="rows"),)
    fields = json.loads(replace(MANIFEST_OF_TINY, state_spec=spec).to_bytes())
    (new,) = Manifest.from_bytes(json.dumps(fields).encode(), "the-path").state_spec
    del fields["state_spec"][0]["ids"]
    (old,) = Manifest.from_bytes(json.dumps(fields).encode(), "the-path").state_spec
    fields["state_spec"][0]["ids"] = "row"

    assert (new.ids, old.ids) == ("rows", "any")
    assert new == old  # their records are the same
    with pytest.raises(ArtifactError, match=r"is not a manifest: .*ids"):
        Manifest.from_bytes(json.dumps(fields).encode(), "the-path")


def test_a_manifest_says_which_rows_may_be_empty():
    spec = (TensorSpec("items", (8,), "int32", "first"), TensorSpec("rows", (9,), "int32", "last"))
    raw = replace(MANIFEST_OF_TINY, state_spec=spec).to_bytes()

    assert Manifest.from_bytes(raw, "the-path").state_spec == spec
    with pytest.raises(ArtifactError, match=r"is not a manifest: .*filled"):
        Manifest.from_bytes(raw.replace(b'"first"', b'"frist"'), "the-path")


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{}", b"\xff", b'{"format": 1}'])
def test_bytes_that_are_not_a_manifest_are_refused(raw):
    with pytest.raises(ArtifactError, match="artifact: the-path is not a manifest"):
        Manifest.from_bytes(raw, "the-path")


def test_a_manifest_with_an_unknown_key_is_refused():
    fields = json.loads(MANIFEST_OF_TINY.to_bytes()) | {"colour": "red"}

    with pytest.raises(ArtifactError, match="colour"):
        Manifest.from_bytes(json.dumps(fields).encode(), "the-path")


def test_an_artifact_is_complete_without_its_builder(tmp_path):
    artifact = save(tmp_path / "here")
    shutil.move(artifact.path, tmp_path / artifact.artifact_id)

    assert load_artifact(tmp_path, artifact.artifact_id).manifest == artifact.manifest


def test_an_older_manifest_has_no_gap():
    values = json.loads(replace(MANIFEST_OF_TINY, request_gap_s=4_000).to_bytes())
    assert Manifest.from_bytes(json.dumps(values).encode(), "new").request_gap_s == 4_000
    del values["request_gap_s"]
    assert Manifest.from_bytes(json.dumps(values).encode(), "old").request_gap_s == 0


@pytest.mark.parametrize("gap_s", [-1, 1.5, "60", None, True, 10**9])
def test_a_gap_that_is_no_number_of_seconds_is_refused(gap_s):
    values = json.loads(MANIFEST_OF_TINY.to_bytes()) | {"request_gap_s": gap_s}
    with pytest.raises(ArtifactError, match="request_gap_s: got"):
        Manifest.from_bytes(json.dumps(values).encode(), "new")
