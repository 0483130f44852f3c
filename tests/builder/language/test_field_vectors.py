"""From a recipe's [language] section to a trained model that holds the fields' vectors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builder.errors import RecipeError, StepError
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.language.field_vectors import make_vectors, vectors_of
from builder.pipeline import STEPS, Build
from builder.recipe.language import LanguageRule
from builder.recipe.models import ModelChoice, with_llm_dim
from builder.recipe.recipe import Recipe
from builder.run_folder import RunFolder
from builder.train.train import train
from tests.builds import small_recipe, with_placed_pools

RULE = LanguageRule(model="minilm", steps=2, batch=8, values_per_field=10, threads=1)
ENHANCED = with_llm_dim(ModelChoice("fm", {"dim": 4, "fre": 0.1, "fie": 0.1}), RULE)


def recipe(model: ModelChoice = ENHANCED, language: LanguageRule | None = RULE) -> Recipe:
    plain = small_recipe()
    short = replace(plain.train, steps=2, validate_every=2)
    return replace(plain, model=model, language=language, train=short)


@pytest.fixture(scope="module")
def events() -> Events:
    return ingest(small_recipe())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(tmp_path_factory.mktemp("runs") / "one")


def test_the_width_of_the_vectors_need_not_be_said() -> None:
    assert ENHANCED.config["llm_dim"] == RULE.dim == 384
    assert with_llm_dim(ModelChoice("fm", {"dim": 4}), RULE).config == {"dim": 4}
    own = ModelChoice("fm", {"fre": 0.1, "llm_dim": 7})
    assert with_llm_dim(own, RULE) == own


def test_a_trained_model_holds_the_vectors_of_its_fields(events: Events, folder: RunFolder) -> None:
    vectors = vectors_of(events, recipe(), folder)
    assert vectors is not None
    schema = events.schema
    fields = (*schema.user_fields, *schema.context_fields, *schema.item_fields)
    assert vectors.shape == (len(fields), 384)
    trained = train(events, recipe(), vectors=vectors)
    assert torch.equal(trained.weights["semantics.vectors"], vectors)
    assert torch.equal(trained.build().get_buffer("semantics.vectors"), vectors)


def test_candidate_fields_have_vectors_after_those_of_the_items(
    events: Events, tmp_path: Path
) -> None:
    placed = with_placed_pools(events)
    made = make_vectors(placed, recipe(), RunFolder(tmp_path / "run"))
    assert list(made.report["fields"])[-3:] == ["popularity", "display", "mailer"]
    trained = train(placed, recipe(), vectors=made.vectors).build()
    assert torch.equal(trained.get_buffer("semantics.vectors"), made.vectors)
    assert torch.unique(made.vectors, dim=0).shape == made.vectors.shape


def test_another_recipe_of_the_same_fields_reads_what_was_made(
    events: Events, folder: RunFolder
) -> None:
    first = make_vectors(events, recipe(), folder)
    other = RunFolder(folder.path.parent / "two")
    second = make_vectors(events, recipe(), other)
    assert torch.equal(first.vectors, second.vectors)
    assert list(first.report["fields"]) == ["hour", "item", "category", "popularity"]
    made = [path for path in other.language.iterdir() if path.is_dir()]
    assert len(made) == 1


def test_a_plain_model_gets_none(events: Events, tmp_path: Path) -> None:
    assert vectors_of(events, recipe(ModelChoice("fm")), RunFolder(tmp_path / "run")) is None
    assert vectors_of(events, recipe(language=None), RunFolder(tmp_path / "run")) is None


def test_a_model_and_its_vectors_must_fit(events: Events) -> None:
    with pytest.raises(RecipeError, match=r"field vectors: got none, expected a \[language\]"):
        train(events, recipe())
    with pytest.raises(RecipeError, match="expected a field model with llm_dim"):
        train(events, recipe(ModelChoice("fm")), vectors=torch.zeros(4, 384))


def test_what_cannot_be_made_says_what_to_do(events: Events, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(StepError, match=r"the recipe has no \[language\] section"):
        make_vectors(events, recipe(language=None), folder)
    with pytest.raises(StepError, match="ingest it again"):
        make_vectors(replace(events, item_values={}), recipe(), folder)
    odd = replace(RULE, descriptions={"catgory": "kind of item"})
    with pytest.raises(RecipeError, match="did you mean 'category'"):
        make_vectors(events, recipe(language=odd), folder)


def test_a_history_model_on_a_log_without_times_is_refused(tmp_path: Path, events: Events) -> None:
    still = replace(events, ts_s=events.ts_s * 0)
    folder = RunFolder(tmp_path / "run")
    still.save(folder.events)
    build = Build(small_recipe(), folder, tmp_path / "artifacts", "embedded:")
    with pytest.raises(StepError, match="'lrea' reads histories, and the log has no times"):
        STEPS["train"].run(build)
