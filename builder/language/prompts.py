"""Pairs of a prompt and the field that answers it, for tuning and held out.

Differs from LLaCTR's released code, which keeps a dictionary from value to field and so gives a value of two fields
("3" children, "3" in the morning) the label of the last one: here it is a pair for each, and `limit` says what accuracy
that leaves possible.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.language.texts import FieldTexts
from builder.recipe.language import LanguageRule, Template

HELD_OUT = 10
"""One value in so many; a field with fewer values has none to spare."""
MAX_HELD_OUT = 40
"""Of a field: enough for ±0.02 over all fields, and a small part of the time of tuning."""
MAX_CHARACTERS = 120
"""Of a value. What follows says little more of the field, and a batch waits for its longest."""


@dataclass(frozen=True)
class Pair:
    """A value and its field's place in the frame."""

    value: str
    field: int


@dataclass(frozen=True)
class Sample:
    """Pairs of every field.

    Attributes:
        train: to tune on.
        held_out: to measure on.
        limit: accuracy on `held_out` of whoever knows every value of every field, and guesses among the fields that
            a value is of; 1 where no value is shared.
    """

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    limit: float


def sample_pairs(texts: FieldTexts, rule: LanguageRule) -> Sample:
    """At most `rule.values_per_field` values of each field, chosen by a hash with the seed."""
    train: list[Pair] = []
    held_out: list[Pair] = []
    for place, name in enumerate(texts.names):
        # A value that is cut may equal another: once is enough.
        values = dict.fromkeys(value[:MAX_CHARACTERS] for value in texts.values[place])
        order = sorted(values, key=lambda value: _draw(rule.seed, name, value))
        pairs = [Pair(value, place) for value in order[: rule.values_per_field]]
        num_held_out = min(len(pairs) // HELD_OUT, MAX_HELD_OUT)
        held_out += pairs[:num_held_out]
        train += pairs[num_held_out:]
    return Sample(tuple(train), tuple(held_out), _limit(texts, held_out))


def _draw(seed: int, name: str, value: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}\0{value}".encode(), digest_size=8).digest()


def _limit(texts: FieldTexts, pairs: Sequence[Pair]) -> float:
    fields = Counter(
        value for values in texts.values for value in {text[:MAX_CHARACTERS] for text in values}
    )
    return sum(1 / fields[pair.value] for pair in pairs) / len(pairs) if pairs else 1.0


def write_prompts(
    pairs: Iterable[Pair], descriptions: Sequence[str], template: Template
) -> list[str]:
    """A prompt for each pair; its answer, the field's description, is to come next."""
    if template == "short":
        return [f"Value: {pair.value}\nField:\n" for pair in pairs]
    candidates = ", ".join(descriptions)
    return [
        "Do the task on the input and write a response.\n\n"
        "### Instruction:\nEach value in a log of events belongs to one field. "
        "Name the field of this value: one of the candidates.\n\n"
        f"### Input:\nThe value is {pair.value}.\nCandidates: {candidates}\n\n"
        "### Response:\n"
        for pair in pairs
    ]
