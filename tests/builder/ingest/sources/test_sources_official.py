"""Shipped recipes over official files: absent folders, training and evaluation."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builder.errors import EventsError
from builder.evaluate.report import evaluate
from builder.ingest.run import ingest
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import load_recipe
from builder.train.train import train
from tests.builder.ingest.sources.official import (
    amazon,
    shipped,
    targets_by_user,
    write_amazon,
    write_taobao,
)

MODELS = [
    ModelChoice(name, {"mlp": [8], "hidden": 4, "heads": 1, **config})
    for name, config in (
        ("lrea", {"slots": "hash", "rank": 8}),
        ("din", {}),
        ("din", {"long": False}),
    )
]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "words"), [("amazon-books", r"cseweb\.ucsd\.edu"), ("taobao", r"tianchi\.aliyun\.com")]
)
def test_absent_folder_says_where_to_get_the_files(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(EventsError, match=rf"nowhere: no such folder.*{words}"):
        ingest(shipped(name, tmp_path / "nowhere"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name}-{len(model.config)}")
@pytest.mark.parametrize("name", ["amazon-books", "taobao"])
def test_shipped_recipe_trains_and_evaluates(tmp_path: Path, name: str, model: ModelChoice) -> None:
    if name == "amazon-books":
        write_amazon(tmp_path)
        recipe = amazon(tmp_path)
    else:
        write_taobao(tmp_path)
        recipe = shipped(name, tmp_path)
    recipe = replace(recipe, model=model)
    events = ingest(recipe)

    checkpoint = train(events, recipe)
    report = evaluate(checkpoint, events, recipe)

    assert [line["step"] for line in checkpoint.history] == [1, 2]
    test = targets_by_user(events, recipe).values()
    positives = sum(len(items) for ((part, _, items),) in test if part == "test")
    assert (report.test.targets, report.test.positives) == (2 * positives, positives)
    assert 0 <= report.test.auc <= 1
    assert report.floor is not None


@pytest.mark.parametrize("name", ["amazon-books", "taobao"])
def test_shipped_variants_are_no_history_lrea_and_din(name: str) -> None:
    variants = load_recipe(f"builder/recipes/{name}.toml").variant

    assert [(v.model.name, v.model.config.get("long", True)) for v in variants] == [
        ("din", False),
        ("lrea", True),
        ("din", True),
    ]
