"""The `[audit]` section: each allowed rule has a name and a reason."""

from pathlib import Path

from builder.recipe.audit import Allowed, AuditRule, exception_lines
from builder.recipe.recipe import recipe_from
from tests.builder.logs import plain_recipe, problems_of

REASON = "The paper's protocol, kept to compare with it."


def test_allowed_rules_are_read_in_order() -> None:
    allow = [{"rule": "item in history", "reason": REASON}]

    recipe = recipe_from(plain_recipe(audit={"allow": allow}), Path("recipe.toml"))

    assert recipe.audit.allow == (Allowed("item in history", REASON),)
    assert recipe.to_dict()["audit"] == {"allow": allow}


def test_a_recipe_without_exceptions_keeps_its_older_fingerprint() -> None:
    recipe = recipe_from(plain_recipe(), Path("recipe.toml"))

    assert "audit" not in recipe.to_dict()


def test_an_exception_needs_a_reason_and_a_name_of_its_own() -> None:
    allow = [
        {"rule": "item in history", "reason": REASON},
        {"rule": "item in history", "reason": "because"},
        {"rule": " ", "reason": REASON},
    ]

    assert problems_of(plain_recipe(audit={"allow": allow})) == [
        "audit.allow[1].reason: got 'because', expected a sentence that says why",
        "audit.allow[1].rule: got 'item in history' twice, expected each rule once",
        "audit.allow[2].rule: got an empty name, expected a rule's name",
    ]


def test_what_stands_beside_the_metrics_names_rule_and_reason() -> None:
    rule = AuditRule((Allowed("item in history", REASON),))

    assert exception_lines(rule) == [
        f"Audit exception: the rule 'item in history' may tell labels. {REASON}"
    ]
    assert exception_lines(AuditRule()) == []


def test_a_missing_reason_is_refused() -> None:
    problems = problems_of(plain_recipe(audit={"allow": [{"rule": "item in history"}]}))

    assert problems == ["audit.allow[0].reason: missing, expected a string"]
