"""Pairs of a prompt and the field that answers it, for tuning and held out.

Differs from LLaCTR's released code, which keeps a dictionary from value to field and so gives a value of two fields
("3" children, "3" in the morning) the label of the last one: here each field has its own pair, and `limit` is the
accuracy that this allows.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.language.texts import FieldTexts
from builder.recipe.language import LanguageRule, Template

HELD_OUT = 10
"""One value of 10 is held out; a field with fewer values holds none out."""
MAX_HELD_OUT = 40
"""Most held-out values of a field: enough for ±0.02 over all fields, at a small part of the tuning time."""
MAX_CHARACTERS = 120
"""Values are cut here: the rest tells little about the field, and the longest value sets a batch's time."""


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
        limit: best possible accuracy on `held_out`: a value of several fields is guessed among these; 1 where no
            value is shared.
    """

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    limit: float


def sample_pairs(texts: FieldTexts, rule: LanguageRule) -> Sample:
    """At most `rule.values_per_field` values of each field, chosen by a hash with the seed."""
    train: list[Pair] = []
    held_out: list[Pair] = []
    for place, name in enumerate(texts.names):
        # Cut values may be equal: each is kept once.
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
    """A prompt for each pair, without its answer, the field's description."""
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
