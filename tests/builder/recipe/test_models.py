"""The models of a comparison in a recipe: variants, search, sweeps. Every problem names its key."""

from typing import Any

import pytest

from tests.builder.logs import plain_recipe, problems_of

FM = {"label": "FM", "family": "none", "model": {"name": "fm", "fre": 0.1}}
DRAWN = {"trials": 2, "learning_rate": [0.1, 0.2]}
DIN = {"label": "DIN", "family": "full", "model": {"name": "din", "heads": 2}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"variant": [{"label": "x", "model": {"name": "din"}}]},
            "variant[0].family: missing, expected one of: lrea",
        ),
        ({"variant": [{**DIN, "family": "twostage"}]}, "did you mean 'two-stage'?"),
        ({"variant": [DIN, DIN]}, "variant[1].label: got 'DIN' twice"),
        (
            {"variant": [{**DIN, "against": ["DNI"]}]},
            "variant[0].against: got 'DNI', expected one of: none",
        ),
        (
            {"variant": [{**DIN, "against": ["DIN"]}]},
            "variant[0].against: got 'DIN', expected one of: none",
        ),
        (
            {"variant": [{**DIN, "against": ["too"]}, {**DIN, "label": "two"}]},
            "variant[0].against: got 'too', expected one of: two; did you mean 'two'?",
        ),
        (
            {"search": {"learning_rate": [0.1]}},
            "search.learning_rate: got [0.1], expected none or at least two",
        ),
        ({"search": {"learning_rate": [0.1, 0.1]}}, "at least two, all different"),
        (
            {"search": {"learning_rate": [0.1, 0]}},
            "search.learning_rate[1]: got 0, expected a number above 0",
        ),
        (
            {"search": {"weight_decay": [0.1]}},
            "search.weight_decay: got values to draw from, expected search.trials",
        ),
        (
            {"search": {"model": {"fre": [1.0]}}},
            "search.model: got values to draw from, expected search.trials",
        ),
        ({"search": {"trials": 3}}, "search.trials: got 3, expected learning rates to draw from"),
        (
            {"search": {"trials": 5, "learning_rate": [0.1, 0.2], "weight_decay": [0.0, 0.1]}},
            "search.trials: got 5, expected at most 4 combinations",
        ),
        ({"search": {"trials": 1}}, "search.trials: got 1, expected at least 2"),
        (
            {"search": {"trials": 2, "learning_rate": [0.1, 0.2], "model": {"fre": 1}}},
            "search.model.fre: got 1, expected a list of values",
        ),
        (
            {"variant": [{**DIN, "vectors": "tuned"}]},
            "variant[0].vectors: got 'tuned', expected a [language] section",
        ),
        ({"variant": [FM], "language": {}}, "variant[0].vectors: missing, fre and fie read them"),
        (
            {"model": {"name": "fm", "fre": 0.1}},
            "model: fre and fie read field vectors, expected a [language] section",
        ),
        (
            {"model": {"name": "fm", "fre": 0.1, "llm_dim": 7}, "language": {}},
            "model.llm_dim: got 7, expected 384, the width of minilm, or none",
        ),
        (
            {"variant": [DIN], "search": {**DRAWN, "model": {"haeds": [1]}}},
            "key of one; did you mean 'heads'?",
        ),
        (
            {"variant": [DIN], "search": {**DRAWN, "model": {"heads": [1, "2"]}}},
            "model.heads[1]: heads: got '2'",
        ),
        (
            {"variant": [{**DIN, "vectors": "real"}]},
            "variant[0].vectors: got 'real', expected one of: tuned, raw",
        ),
        ({"search": {"steps": 0}}, "search.steps: got 0, expected at least 1"),
    ],
)
def test_impossible_comparison_names_the_key(sections: dict[str, Any], words: str) -> None:
    (problem,) = problems_of(plain_recipe(**sections))

    assert words in problem


def test_every_problem_of_the_sweeps_is_listed_at_once() -> None:
    def sweep(label: str, variant: str, key: str, *values: Any) -> dict[str, Any]:
        return {"label": label, "variant": variant, "key": key, "values": list(values)}

    found = problems_of(
        plain_recipe(
            variant=[DIN],
            sweep=[
                sweep("a", "DNI", "heads", 1, 2),
                sweep("b", "DIN", "haeds", 1, 2),
                sweep("c", "DIN", "heads", 1, "two", 2.5),
                sweep("c", "DIN", "mlp", [8], [8, 4]),
                sweep("d", "DIN", "train.share", 0.1, 1, 0, True, "all", 1.5),
            ],
        )
    )

    expected = [
        "sweep[3].label: got 'c' twice",
        "sweep[0].variant: got 'DNI', expected one of: DIN; did you mean 'DIN'?",
        "sweep[1].key: got 'haeds', expected one of: item_dim",
        "sweep[2].values[1]: heads: got 'two', expected a whole number",
        "sweep[2].values[2]: heads: got 2.5, expected a whole number",
        "sweep[4].values[2]: got 0, expected a number above 0 and at most 1",
        "sweep[4].values[3]: got True, expected a number above 0 and at most 1",
        "sweep[4].values[4]: got 'all', expected a number above 0 and at most 1",
        "sweep[4].values[5]: got 1.5, expected a number above 0 and at most 1",
    ]
    assert len(found) == len(expected)
    for problem, words in zip(found, expected, strict=True):
        assert problem.startswith(words)


def test_a_sweep_needs_two_values() -> None:
    one = {"label": "a", "variant": "DIN", "key": "heads", "values": [2]}

    (problem,) = problems_of(plain_recipe(variant=[DIN], sweep=[one]))

    assert problem == "sweep[0].values: got [2], expected at least two"
