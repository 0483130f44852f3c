"""The order of a comparison's trainings: variants in the recipe's order, each with its seeds, no training twice."""

from dataclasses import replace
from pathlib import Path

from builder.experiments.compare.plan import Outcomes, Plan
from builder.recipe.models import ModelChoice, Sweep, Variant
from tests.builds import small_recipe

FM, MEAN = ModelChoice("fm"), ModelChoice("mean_pool")


def plan_of(
    folder: Path, *variants: Variant, sweep: tuple[Sweep, ...] = (), seeds: int = 2
) -> Plan:
    recipe = replace(small_recipe(), variant=variants, sweep=sweep)
    return Plan(recipe, seeds, Outcomes(folder, "log"))


def order_of(plan: Plan) -> list[tuple[str, int]]:
    return [(each.label, each.seed) for each in plan.in_order(plan.recipe.variant)]


def test_each_variant_has_all_its_seeds_before_the_next(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, Variant("FM", "none", FM), Variant("mean", "pooled", MEAN))

    assert order_of(plan) == [("FM", 0), ("FM", 1), ("mean", 0), ("mean", 1)]


def test_a_variant_may_have_fewer_seeds(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, Variant("FM", "none", FM, seeds=1), Variant("mean", "pooled", MEAN, seeds=5)
    )

    assert order_of(plan) == [("FM", 0), ("mean", 0), ("mean", 1)]


def test_a_training_that_two_variants_share_comes_at_the_place_of_the_first(tmp_path: Path) -> None:
    """So a second name at the end can put sweeps behind all variants."""
    sweep = Sweep("cells", "mean, varied", "cells", (128, 256), seeds=1)
    variants = [Variant("mean", "pooled", MEAN), Variant("FM", "none", FM)]
    plan = plan_of(tmp_path, *variants, replace(variants[0], label="mean, varied"), sweep=(sweep,))

    assert order_of(plan) == [
        ("mean", 0),
        ("mean", 1),
        ("FM", 0),
        ("FM", 1),
        ("mean, varied, cells = 128", 0),
    ]
