"""What the language model reads: fields in the frame's order, prompts, values held out, labels of shared values."""

import subprocess
import sys
from dataclasses import replace

import pytest

from builder.errors import RecipeError
from builder.language.prompts import MAX_CHARACTERS, MAX_HELD_OUT, Pair, sample_pairs, write_prompts
from builder.language.texts import FieldTexts, field_texts
from builder.recipe.language import LanguageRule
from builder.recipe.validate import config_problems, make_config
from models.contract.schema import FeatureSchema, Field

SCHEMA = FeatureSchema(
    item_fields=(Field("item", 4), Field("brand", 3)),
    user_fields=(Field("age", 4),),
    context_fields=(Field("hour", 26),),
    num_items=4,
    history_length=8,
    recent_length=2,
)
USER = {"age": ["25-34", "35-44"]}
CONTEXT = {"hour": [str(hour) for hour in range(24)]}
ITEM = {"brand": ["acme"], "item": ["1", "2"]}


def two_fields(num_first: int, num_second: int) -> FieldTexts:
    first = tuple(f"a{place}" for place in range(num_first))
    second = tuple(f"b{place}" for place in range(num_second))
    return FieldTexts(("x", "y"), ("x", "y"), (first, second))


def test_fields_come_in_the_order_of_the_frame() -> None:
    texts = field_texts(SCHEMA, USER, CONTEXT, ITEM, {}, {"hour": "hour of day"})

    assert texts.names == ("age", "hour", "item", "brand")
    assert texts.descriptions == ("age", "hour of day", "item", "brand")
    assert texts.values[0] == ("25-34", "35-44")
    assert texts.values[2:] == (("1", "2"), ("acme",))


def test_candidate_fields_come_last() -> None:
    schema = replace(SCHEMA, candidate_fields=(Field("brand", 3), Field("display", 4)))
    given = {"brand": ["z"], "display": ["front", "aisle"]}
    texts = field_texts(schema, USER, CONTEXT, ITEM, given, {"candidate.brand": "shelf brand"})

    assert texts.names == ("age", "hour", "item", "item.brand", "candidate.brand", "display")
    assert texts.values[-1] == ("front", "aisle")


def test_fields_of_one_name_are_told_apart() -> None:
    schema = replace(SCHEMA, user_fields=(Field("brand", 4),))
    texts = field_texts(schema, {"brand": ["x"]}, CONTEXT, ITEM, {}, {"item.brand": "maker"})

    assert texts.names == ("user.brand", "hour", "item", "item.brand")
    assert texts.descriptions == ("user.brand", "hour", "item", "maker")


def test_wrong_descriptions_are_all_listed() -> None:
    wrong = {"brnad": "maker", "age": " ", "item": "hour"}

    with pytest.raises(RecipeError) as caught:
        field_texts(SCHEMA, USER, CONTEXT, ITEM, {}, wrong)

    unknown, empty, same = caught.value.problems
    assert unknown.startswith("brnad: unknown field")
    assert "'brand'" in unknown
    assert empty == "age: got ' ', expected a description"
    assert same == "item: got 'hour', expected a description other than that of hour"


def test_a_tenth_of_the_values_is_held_out() -> None:
    sample = sample_pairs(two_fields(50, 9), LanguageRule())

    assert [pair.field for pair in sample.held_out] == [0] * 5
    assert len(sample.train) == 45 + 9
    assert not set(sample.train) & set(sample.held_out)


def test_no_more_values_than_asked_for() -> None:
    sample = sample_pairs(two_fields(3000, 7), LanguageRule(values_per_field=500))

    assert len(sample.held_out) == MAX_HELD_OUT
    assert len(sample.train) + len(sample.held_out) == 500 + 7


def test_the_seed_alone_decides_what_is_sampled() -> None:
    texts = two_fields(300, 300)
    backwards = FieldTexts(texts.names, texts.descriptions, tuple(v[::-1] for v in texts.values))
    rule = LanguageRule(values_per_field=100)

    assert sample_pairs(texts, rule) == sample_pairs(backwards, rule)
    assert sample_pairs(texts, rule) != sample_pairs(
        texts, LanguageRule(values_per_field=100, seed=1)
    )


def test_a_shared_value_keeps_the_label_of_each_field() -> None:
    shared = tuple(map(str, range(20)))
    texts = FieldTexts(
        ("hour", "age"), ("hour", "age"), (shared, (*shared, *"abcdefghijklmnopqrst"))
    )

    sample = sample_pairs(texts, LanguageRule())
    every = set(sample.train) | set(sample.held_out)

    assert {Pair("3", 0), Pair("3", 1)} <= every
    chances = [0.5 if pair.value in shared else 1.0 for pair in sample.held_out]
    assert sample.limit == pytest.approx(sum(chances) / len(chances))
    assert sample.limit < 1


def test_long_values_are_cut() -> None:
    texts = FieldTexts(("x", "y"), ("x", "y"), (("w" * 1000, "w" * 2000), ("a",)))

    sample = sample_pairs(texts, LanguageRule())

    assert sample.train == (Pair("w" * MAX_CHARACTERS, 0), Pair("a", 1))


def test_a_prompt_ends_where_the_answer_begins() -> None:
    (short,) = write_prompts([Pair("acme", 1)], ["age", "brand"], "short")
    (long,) = write_prompts([Pair("acme", 1)], ["age", "brand"], "long")

    assert short == "Value: acme\nField:\n"
    assert "The value is acme." in long
    assert "Candidates: age, brand\n" in long
    assert long.endswith("### Response:\n")


def test_the_rule_is_read_as_a_section_of_a_recipe() -> None:
    values = {"model": "minilm", "descriptions": {"age": "age of a person"}, "learning_rate": 1}

    assert config_problems(LanguageRule, values) == []
    rule = make_config(LanguageRule, values)
    assert rule.descriptions == {"age": "age of a person"}
    assert rule.learning_rate == 1.0


def test_what_is_wrong_in_the_section_is_said() -> None:
    values = {"descriptions": {"age": 3}, "rank": 0, "vectors": "tunde"}

    assert config_problems(LanguageRule, values, "language") == [
        "language.descriptions.age: got 3, expected a string",
        "language.vectors: got 'tunde', expected one of: tuned, raw, random, shuffled; did you mean 'tuned'?",
        "language.rank: got 0, expected at least 1",
    ]


def test_an_encoder_writes_no_answers() -> None:
    (problem,) = config_problems(LanguageRule, {"model": "minilm", "loss": "both"}, "language")

    assert problem.startswith("language.loss: got 'both', expected 'contrastive'")


def test_the_rule_is_read_without_torch() -> None:
    code = "import sys, builder.recipe.language; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
