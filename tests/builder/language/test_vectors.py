"""Vectors are stored by content: nothing is done twice, nothing half-done is seen, controls are made when read."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from builder.language.controls import cosine_summary, derangement, random_like
from builder.language.texts import FieldTexts
from builder.language.vectors import REPORT_FILE, VECTORS_FILE, content_hash, field_vectors
from builder.recipe.language import LanguageRule

NAMES = ("city", "hour", "genre")
VALUES = (
    ("New York", "Oakland", "Boston"),
    tuple(map(str, range(24))),
    ("Drama|War", "Comedy|Crime", "Horror"),
)
TEXTS = FieldTexts(NAMES, NAMES, VALUES)
RULE = LanguageRule(model="minilm", steps=1, batch=4, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the vectors of RULE in it."""
    made = tmp_path_factory.mktemp("language")
    field_vectors(TEXTS, RULE, made)
    return made


def stored(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refuse(done: int, total: int, note: str = "") -> None:
    raise AssertionError(f"step {done} of {total}: nothing was to be tuned")


def test_a_row_for_each_field_and_a_report(folder: Path) -> None:
    found = field_vectors(TEXTS, RULE, folder)

    assert found.vectors.shape == (3, 384)
    assert found.vectors.dtype == torch.float32
    report = found.report
    assert report["steps"] == len(report["losses"]) == 1
    assert report["accuracy"]["chance"] == pytest.approx(1 / 3)
    assert set(report["accuracy"]["after"]["by_field"]) == {"hour"}
    assert {"load", "tokenise", "forward", "backward", "encode"} <= set(report["seconds"])
    assert -1 <= report["cosines"]["min"] <= report["cosines"]["max"] <= 1
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("vectors", ["tuned", "random", "shuffled"])
def test_a_second_time_nothing_is_done(folder: Path, vectors: Any) -> None:
    before = stored(folder)

    rule = replace(RULE, vectors=vectors)
    first = field_vectors(TEXTS, rule, folder, refuse)
    second = field_vectors(TEXTS, rule, folder, refuse)

    assert torch.equal(first.vectors, second.vectors)
    assert first.report == second.report
    assert stored(folder) == before


def test_the_seed_gives_the_same_vectors_again(folder: Path, tmp_path: Path) -> None:
    again = field_vectors(TEXTS, RULE, tmp_path)

    key = content_hash(TEXTS, RULE)
    assert (tmp_path / key / VECTORS_FILE).read_bytes() == (
        folder / key / VECTORS_FILE
    ).read_bytes()
    assert again.report["losses"] == field_vectors(TEXTS, RULE, folder).report["losses"]


def test_the_random_state_and_the_threads_of_others_stay(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected, threads = torch.rand(2), torch.get_num_threads()

    torch.manual_seed(3)
    field_vectors(TEXTS, replace(RULE, vectors="raw", threads=2), tmp_path)

    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


CHANGES: dict[str, Callable[[LanguageRule], LanguageRule]] = {
    "model": lambda rule: replace(rule, model="smollm2"),
    "raw": lambda rule: replace(rule, vectors="raw"),
    "template": lambda rule: replace(rule, template="long"),
    "values_per_field": lambda rule: replace(rule, values_per_field=2),
    "steps": lambda rule: replace(rule, steps=2),
    "batch": lambda rule: replace(rule, batch=8),
    "learning_rate": lambda rule: replace(rule, learning_rate=0.1),
    "rank": lambda rule: replace(rule, rank=4),
    "alpha": lambda rule: replace(rule, alpha=8.0),
    "dropout": lambda rule: replace(rule, dropout=0.1),
    "seed": lambda rule: replace(rule, seed=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_the_vectors_changes_their_hash(name: str) -> None:
    assert content_hash(TEXTS, CHANGES[name](RULE)) != content_hash(TEXTS, RULE)


def test_the_loss_changes_the_hash() -> None:
    decoder = LanguageRule(model="smollm2")

    hashes = {content_hash(TEXTS, replace(decoder, loss="both")), content_hash(TEXTS, decoder)}

    assert len(hashes) == 2


OTHER_TEXTS = {
    "names": replace(TEXTS, names=("a", "b", "c")),
    "descriptions": replace(TEXTS, descriptions=("a", "b", "c")),
    "values": replace(TEXTS, values=VALUES[::-1]),
}


@pytest.mark.parametrize("part", OTHER_TEXTS)
def test_a_changed_text_changes_the_hash(part: str) -> None:
    assert content_hash(OTHER_TEXTS[part], RULE) != content_hash(TEXTS, RULE)


def test_what_only_takes_longer_or_is_made_later_does_not_change_it() -> None:
    others = (
        replace(RULE, threads=2),
        replace(RULE, vectors="random"),
        replace(RULE, vectors="shuffled"),
    )

    assert {content_hash(TEXTS, rule) for rule in others} == {content_hash(TEXTS, RULE)}


def test_a_killed_tuning_leaves_nothing_to_be_seen(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "import builder.language.vectors as vectors\n"
        "from tests.builder.language.test_vectors import RULE, TEXTS\n"
        "save = vectors.save_file\n"
        "def save_and_die(*given):\n"
        "    save(*given)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "vectors.save_file = save_and_die\n"
        f"vectors.field_vectors(TEXTS, RULE, Path({str(tmp_path)!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": "."}

    killed = subprocess.run([sys.executable, "-c", code], check=False, env=environment)

    assert killed.returncode == -signal.SIGKILL
    place = tmp_path / content_hash(TEXTS, RULE)
    assert not place.exists()
    assert field_vectors(TEXTS, RULE, tmp_path).vectors.shape == (3, 384)
    assert sorted(path.name for path in place.iterdir()) == [REPORT_FILE, VECTORS_FILE]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [place]


def test_random_vectors_have_the_lengths_of_the_tuned(folder: Path) -> None:
    tuned = field_vectors(TEXTS, RULE, folder).vectors

    drawn = field_vectors(TEXTS, replace(RULE, vectors="random"), folder).vectors

    torch.testing.assert_close(drawn.norm(dim=-1), tuned.norm(dim=-1))
    assert not torch.allclose(drawn, tuned)
    assert not torch.equal(random_like(tuned, 0), random_like(tuned, 1))


def test_shuffled_vectors_are_the_tuned_of_other_fields(folder: Path) -> None:
    tuned = field_vectors(TEXTS, RULE, folder).vectors

    moved = field_vectors(TEXTS, replace(RULE, vectors="shuffled"), folder).vectors

    sources = [
        next(place for place, own in enumerate(tuned) if torch.equal(own, row)) for row in moved
    ]
    assert sorted(sources) == [0, 1, 2]
    assert all(place != source for place, source in enumerate(sources))


@pytest.mark.parametrize("size", range(2, 14))
def test_a_derangement_leaves_nothing_at_its_place(size: int) -> None:
    for seed in range(20):
        moved = derangement(size, seed).tolist()
        assert sorted(moved) == list(range(size))
        assert all(place != source for place, source in enumerate(moved))


def test_one_field_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="got 1 field"):
        derangement(1, 0)


def test_cosines_are_those_between_different_fields() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0]])

    summary = cosine_summary(vectors)

    assert (summary["min"], summary["max"]) == (0.0, 1.0)
    assert summary["mean"] == pytest.approx(1 / 3)
    assert cosine_summary(vectors[:1]) == {}
