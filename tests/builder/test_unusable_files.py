"""Steps over a full disk, and over a log that is missing or damaged: a sentence, and what was there stays."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.errors import StepError
from builder.pipeline import Build, republish, run_step
from builder.run_folder import RunFolder
from tests.builder.logs import log_frame, write_log
from tests.service.toy import Toy


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file can grow beyond this: writing fails as on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small(tmp_path: Path) -> Build:
    (tmp_path / "run").mkdir()
    recipe = write_log(tmp_path, log_frame())
    return Build(recipe, RunFolder(tmp_path / "run"), tmp_path / "artifacts", "embedded:nowhere")


def test_a_full_disk_stops_a_step_with_a_sentence_and_leaves_the_output_before(
    small: Build,
) -> None:
    run_step(small, "ingest")
    before = (small.folder.events / "item.npy").read_bytes()

    with full_disk(200), pytest.raises(StepError, match=r"^ingest: .*; got no complete output"):
        run_step(small, "ingest")

    assert (small.folder.events / "item.npy").read_bytes() == before
    assert "ingest" not in small.folder.stamps()


def test_republish_before_ingest_says_what_to_run(small: Build) -> None:
    artifact = Toy().save(small.artifacts).artifact_id

    with pytest.raises(StepError, match=r"expected the ingested log; run `absorb ingest"):
        republish(small, artifact)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("events.json", b""),
        ("events.json", b"{}"),
        ("item.npy", b""),
        ("item.npy", b"not numpy"),
        ("vocabulary.json", b"[]"),
    ],
)
def test_a_damaged_log_says_what_to_run(small: Build, file: str, content: bytes) -> None:
    run_step(small, "ingest")
    (small.folder.events / file).write_bytes(content)

    with pytest.raises(StepError, match=r"log cannot be read .* run `absorb ingest .* again"):
        small.events()
