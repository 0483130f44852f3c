"""What the language model reads: the fields in words, and values of each, from training data only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import RecipeError
from models.contract.errors import did_you_mean
from models.contract.schema import FeatureSchema


@dataclass(frozen=True)
class FieldTexts:
    """K fields in the order of a model's frame: the user's, the context's, the item's.

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
    descriptions: Mapping[str, str],
) -> FieldTexts:
    """Texts of a schema's fields.

    Args:
        schema: says which fields there are, in which order.
        user: field -> raw values; as `Vocabulary.user`.
        context: field -> raw values; as `Vocabulary.context`.
        item: field -> raw values, the item's id and popularity among them.
        descriptions: field -> what it is in words; the name stands for a field without. Fields of one name are told
            apart as "user.region", "context.region", "item.region".

    Raises:
        RecipeError: `descriptions` names no field, is empty, or says the same of two fields.
    """
    kinds = {
        "user": (schema.user_fields, user),
        "context": (schema.context_fields, context),
        "item": (schema.item_fields, item),
    }
    often = Counter(field.name for fields, _ in kinds.values() for field in fields)
    triples = [
        (kind, field.name, tuple(values[field.name]))
        for kind, (fields, values) in kinds.items()
        for field in fields
    ]
    # A user's region and an item's are two fields.
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
            problems.append(f"{name}: got {text!r}, expected words")
        elif text in described[:place]:
            other = names[described.index(text)]
            problems.append(f"{name}: got {text!r}, expected other words than those of {other}")
    return problems
