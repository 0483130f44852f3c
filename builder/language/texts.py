"""Texts for the language model: descriptions of fields, and values of each, from training data only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import RecipeError
from models.contract.errors import did_you_mean
from models.contract.schema import FeatureSchema


@dataclass(frozen=True)
class FieldTexts:
    """K fields in the order of a model's frame: the user's, the context's, the item's, the candidate's.

    Attributes:
        names: [K].
        descriptions: in words, [K]; all different.
        values: raw values of each field, [K].
    """

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


def field_texts(
    schema: FeatureSchema,
    user: Mapping[str, Sequence[str]],
    context: Mapping[str, Sequence[str]],
    item: Mapping[str, Sequence[str]],
    candidate: Mapping[str, Sequence[str]],
    descriptions: Mapping[str, str],
) -> FieldTexts:
    """Texts of a schema's fields.

    Args:
        schema: the fields, in order.
        user: field -> raw values; as `Vocabulary.user`.
        context: field -> raw values; as `Vocabulary.context`.
        item: field -> raw values, the item's id and popularity among them.
        candidate: field -> raw values; as `Vocabulary.candidate`.
        descriptions: field -> its description; a field without one is described by its name. Fields of the same name
            are written "user.region", "context.region", "item.region",
            "candidate.region".

    Raises:
        RecipeError: a description names an unknown field, is empty, or equals that of another field.
    """
    kinds = {
        "user": (schema.user_fields, user),
        "context": (schema.context_fields, context),
        "item": (schema.item_fields, item),
        "candidate": (schema.candidate_fields, candidate),
    }
    often = Counter(field.name for fields, _ in kinds.values() for field in fields)
    triples = [
        (kind, field.name, tuple(values[field.name]))
        for kind, (fields, values) in kinds.items()
        for field in fields
    ]
    # A user's region and an item's region are two fields.
    names = tuple(f"{kind}.{name}" if often[name] > 1 else name for kind, name, _ in triples)
    described = tuple(descriptions.get(name, name) for name in names)
    problems = _problems(names, described, descriptions)
    if problems:
        raise RecipeError("descriptions of fields", problems)
    return FieldTexts(names, described, tuple(values for _, _, values in triples))


def _problems(
    names: Sequence[str], described: Sequence[str], given: Mapping[str, str]
) -> list[str]:
    problems = [
        f"{name}: unknown field; known: {', '.join(names)}{did_you_mean(name, names)}"
        for name in given
        if name not in names
    ]
    for place, (name, text) in enumerate(zip(names, described, strict=True)):
        if not text.strip():
            problems.append(f"{name}: got {text!r}, expected a description")
        elif text in described[:place]:
            other = names[described.index(text)]
            problems.append(
                f"{name}: got {text!r}, expected a description other than that of {other}"
            )
    return problems
