"""Problems with the models, the search and the sweeps of a recipe."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from builder.recipe.language import LanguageRule
from builder.recipe.models import SHARE, ModelChoice, SearchRule, Sweep, Variant
from builder.recipe.recipe import TrainRule
from builder.recipe.validate import config_problems
from models.contract.errors import UnknownModelError, did_you_mean
from models.registry import MODELS


def nest_models(values: dict[str, Any]) -> list[str]:
    """Move every key of each model table, except its name, into `config`; return the problems with those keys."""
    problems: list[str] = []
    if isinstance(values.get("model"), dict):
        values["model"], key_problems = _nested(values["model"], "model")
        problems += key_problems
    if isinstance(values.get("variant"), list):
        values["variant"] = [dict(v) if isinstance(v, dict) else v for v in values["variant"]]
        for place, variant in enumerate(values["variant"]):
            if isinstance(variant, dict) and isinstance(variant.get("model"), dict):
                variant["model"], key_problems = _nested(
                    variant["model"], f"variant[{place}].model"
                )
                problems += key_problems
    return problems


def _nested(table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    config = {key: value for key, value in table.items() if key != "name"}
    nested = {"config": config} | ({"name": table["name"]} if "name" in table else {})
    name = table.get("name")
    if not isinstance(name, str):
        return nested, []  # the validation reports it
    if name not in MODELS:
        return nested, [f"{where}.name: {UnknownModelError(name, MODELS)}"]
    return nested, config_problems(MODELS[name].config, config, where)


def vector_problems(
    model: ModelChoice, variants: Sequence[Variant], language: LanguageRule | None
) -> list[str]:
    """Problems of models that read field vectors without a [language] section, or the other way round."""
    problems = []
    if _reads_vectors(model) and language is None:
        problems.append("model: fre and fie read field vectors, expected a [language] section")
    for place, variant in enumerate(variants):
        where = f"variant[{place}]"
        if variant.vectors is not None and language is None:
            problems.append(
                f"{where}.vectors: got {variant.vectors!r}, expected a [language] section"
            )
        elif variant.vectors is None and _reads_vectors(variant.model):
            problems.append(
                f"{where}.vectors: missing, fre and fie read them, for instance 'tuned'"
            )
    for where, config in [("model", model.config)] + [
        (f"variant[{place}].model", variant.model.config) for place, variant in enumerate(variants)
    ]:
        given = config.get("llm_dim")
        if given and language is not None and given != language.dim:
            expected = f"expected {language.dim}, the width of {language.model}, or none"
            problems.append(f"{where}.llm_dim: got {given}, {expected}")
    return problems


def _reads_vectors(model: ModelChoice) -> bool:
    return bool(model.config.get("fre") or model.config.get("fie"))


def comparison_problems(
    variants: Sequence[Variant], sweeps: Sequence[Sweep], search: SearchRule
) -> list[str]:
    """Labels that occur twice, and sweeps and searches of keys or variants that do not exist."""
    problems = []
    for kind, entries in (("variant", variants), ("sweep", sweeps)):
        labels = [entry.label for entry in entries]
        for place, label in enumerate(labels):
            if label in labels[:place]:
                problems.append(
                    f"{kind}[{place}].label: got {label!r} twice, expected a label of its own"
                )
    known = {variant.label: variant for variant in variants}
    for place, variant in enumerate(variants):
        for label in variant.against:
            if label not in known or label == variant.label:
                others = ", ".join(other for other in known if other != variant.label) or "none"
                problem = f"got {label!r}, expected one of: {others}{did_you_mean(label, known)}"
                problems.append(f"variant[{place}].against: {problem}")
        problems += config_problems(TrainRule, variant.train, f"variant[{place}].train")
    for place, sweep in enumerate(sweeps):
        problems += _sweep_problems(known, sweep, f"sweep[{place}]")
    return problems + _search_problems(variants, search)


def _search_problems(variants: Sequence[Variant], search: SearchRule) -> list[str]:
    problems = []
    for key, values in search.model.items():
        configs = [MODELS[variant.model.name].config for variant in variants]
        having = [config for config in configs if key in {own.name for own in fields(config)}]
        if not having:
            keys = sorted({own.name for config in configs for own in fields(config)})
            hint = did_you_mean(key, keys)
            problems.append(
                f"search.model.{key}: got a key that no variant's model has, expected a key of one{hint}"
            )
            continue
        for place, value in enumerate(values):
            key_problems = config_problems(having[0], {key: value})
            problems += [f"search.model.{key}[{place}]: {problem}" for problem in key_problems]
    return problems


def _sweep_problems(variants: dict[str, Variant], sweep: Sweep, where: str) -> list[str]:
    if sweep.variant not in variants:
        known = ", ".join(variants) or "none"
        hint = did_you_mean(sweep.variant, variants)
        return [f"{where}.variant: got {sweep.variant!r}, expected one of: {known}{hint}"]
    if sweep.key == SHARE:
        return [
            f"{where}.values[{place}]: got {value!r}, expected a number above 0 and at most 1"
            for place, value in enumerate(sweep.values)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1
        ]
    config = MODELS[variants[sweep.variant].model.name].config
    keys = [key.name for key in fields(config)]
    if sweep.key not in keys:
        hint = did_you_mean(sweep.key, keys)
        return [f"{where}.key: got {sweep.key!r}, expected one of: {', '.join(keys)}{hint}"]
    own = variants[sweep.variant].model.config
    return [
        f"{where}.values[{place}]: {problem}"
        for place, value in enumerate(sweep.values)
        for problem in config_problems(config, {**own, sweep.key: value})
    ]
