"""The task of this project's first results fails the audit."""

from dataclasses import replace

from builder.audit.run import audit
from builder.ingest.run import ingest
from builder.recipe.recipe import load_recipe
from tests.builder.audit.planted import failing


def test_the_old_default_recipe_fails() -> None:
    """The recipe of this project's first results, on its data."""
    recipe = load_recipe("builder/recipes/complete-journey.toml")
    leaking = replace(recipe, negatives=replace(recipe.negatives, exclude="ever"))

    found = audit(ingest(recipe), leaking, slates=400)

    assert failing(found) == {"item in history"}
    assert {f.name for f in found.failures} == {"item in history: yes"}
    assert {f.share for f in found.failures} == {1.0}
