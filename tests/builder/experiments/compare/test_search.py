"""What a search tries: rates one by one, or balanced draws that all variants share."""

from collections import Counter
from dataclasses import replace
from typing import Any

from builder.experiments.compare.search import in_words, settings
from builder.recipe.models import ModelChoice, SearchRule, Setting, Variant
from builder.recipe.recipe import Recipe
from tests.builds import small_recipe

RATES, DECAYS, WEIGHTS = (0.001, 0.003), (0.0, 1e-5, 1e-4), [0.1, 0.5]


def searched(**search: Any) -> Recipe:
    rule = SearchRule(**{"learning_rate": RATES, **search})
    return replace(small_recipe(), search=rule)


def variant(**config: Any) -> Variant:
    return Variant("FM", "none", ModelChoice("fm", config))


def test_without_trials_each_learning_rate_is_tried_once() -> None:
    assert settings(searched(), variant()) == [Setting(rate, 0.0) for rate in RATES]


def test_draws_hold_each_value_as_often_as_the_others() -> None:
    drawn = settings(searched(trials=6, weight_decay=DECAYS), variant())
    assert Counter(setting.learning_rate for setting in drawn) == dict.fromkeys(RATES, 3)
    assert Counter(setting.weight_decay for setting in drawn) == dict.fromkeys(DECAYS, 2)
    assert len({(setting.learning_rate, setting.weight_decay) for setting in drawn}) > 3


def test_variants_share_their_draws_and_have_their_own_keys() -> None:
    recipe = searched(trials=4, weight_decay=DECAYS, model={"fre": WEIGHTS, "fie": WEIGHTS})
    plain, enhanced = (
        settings(recipe, variant(**config)) for config in ({}, {"fre": 0.1, "llm_dim": 8})
    )
    assert [(s.learning_rate, s.weight_decay) for s in plain] == [
        (s.learning_rate, s.weight_decay) for s in enhanced
    ]
    assert all(setting.config == {} for setting in plain)
    assert Counter(setting.config["fre"] for setting in enhanced) == {0.1: 2, 0.5: 2}
    assert all("fie" not in setting.config for setting in enhanced)  # it is off there


def test_a_setting_in_words_names_what_differs() -> None:
    assert in_words(Setting(0.01, 0.0)) == "0.01"
    assert in_words(Setting(0.01, 1e-5, {"fre": 0.5})) == "0.01, decay 1e-05, fre 0.5"
