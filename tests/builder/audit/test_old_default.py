"""The task of this project's first results fails the audit."""

from dataclasses import replace

from builder.audit.run import audit
from builder.ingest.run import ingest
from builder.recipe.negatives import NegativeRule
from builder.recipe.recipe import HistoryRule, SplitRule, load_recipe
from tests.builder.audit.planted import failing


def test_the_old_default_recipe_fails() -> None:
    """The same log; the split, the histories and the negatives of the recipe that was the default."""
    recipe = replace(
        load_recipe("builder/recipes/habit.toml"),
        split=SplitRule(train_from_day=150.0, validate_from_day=320.0, test_from_day=330.0),
        history=HistoryRule(length=2000, recent=32, min_events=50),
        negatives=NegativeRule(exclude="ever", same_category=0.5, popularity_power=0.75),
    )

    found = audit(ingest(recipe), recipe, slates=400)

    assert failing(found) == {"item in history"}
    assert {f.name for f in found.failures} == {"item in history: yes"}
    assert {f.share for f in found.failures} == {1.0}
    assert {f.part for f in found.failures} == {"train", "validate", "test"}
