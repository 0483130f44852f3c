"""Compares an engine with ONNX Runtime on a few slates, before it serves."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, FeatureSchema, Field
from service.errors import ScoreError
from service.runtime.engines.engine import Engine, EngineSlate, Logits, State, UnfitError

MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability: the limit that the builder holds the graphs to."""
NUM_CANDIDATES = 64


def check_slates(
    schema: FeatureSchema, states: Sequence[State], rng: np.random.Generator
) -> list[EngineSlate]:
    """Slates for `check_engine`: for each state, one of random ids and one of edges.

    The slates of edges are the reserved rows of the catalogue and its last one, without latest items, context or
    candidate fields; and one candidate alone.

    Args:
        schema: ids are drawn from its sizes.
        states: states of users.
        rng: draws the ids.
    """
    slates = []
    for state in states:
        slates.append(_random_slate(schema, state, rng))
        slates.append(_edge_slate(schema, state))
    return [*slates, _random_slate(schema, states[0], rng, num_candidates=1)]


def check_engine(engine: Engine, reference: Engine, slates: Sequence[EngineSlate]) -> float:
    """Score the slates with both engines, all in one call and each in a call of its own, within the engine's limits.

    Returns:
        Largest difference of a probability.

    Raises:
        UnfitError: the engine failed, or gave what is not finite, or a probability that differs by more than
            `MAX_DIFFERENCE`; or the reference failed.
    """
    slates = [_shortened(slate, engine.limits.candidates) for slate in slates]
    most = engine.limits.slates or len(slates)
    try:
        expected = [_score(reference, [slate])[0] for slate in slates]
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise UnfitError("failed", f"nothing to compare with: {error}") from error
    try:
        alone = [_score(engine, [slate])[0] for slate in slates]
        parts = [slates[begin : begin + most] for begin in range(0, len(slates), most)]
        together = [logits for part in parts for logits in _score(engine, part)]
    except Exception as error:  # whatever a library raises
        raise UnfitError("failed", f"scoring failed: {error}") from error
    difference = _difference([*alone, *together], [*expected, *expected])
    if not difference <= MAX_DIFFERENCE:
        raise UnfitError(
            "differs",
            f"a probability differs by {difference:.2g} from ONNX Runtime's, expected at most {MAX_DIFFERENCE}",
        )
    return difference


def _score(engine: Engine, slates: Sequence[EngineSlate]) -> list[Logits]:
    results = []
    for result, slate in zip(engine.score_many(slates), slates, strict=True):
        if isinstance(result, ScoreError):
            raise result
        if result.shape != slate.items.shape:
            raise ScoreError(f"got logits of {result.shape}, expected {slate.items.shape}")
        results.append(result)
    return results


def _shortened(slate: EngineSlate, length: int | None) -> EngineSlate:
    return replace(slate, items=slate.items[:length], fields=slate.fields[:length])


def _difference(logits: Sequence[Logits], expected: Sequence[Logits]) -> float:
    got, reference = np.concatenate(logits), np.concatenate(expected)
    for name, values in (("the engine", got), ("ONNX Runtime", reference)):
        if not np.isfinite(values).all():
            raise UnfitError("not finite", f"{name} gave a logit that is not finite")
    return float(np.abs(_probabilities(got) - _probabilities(reference)).max())


def _probabilities(logits: Logits) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))


def _random_slate(
    schema: FeatureSchema,
    state: State,
    rng: np.random.Generator,
    num_candidates: int = NUM_CANDIDATES,
) -> EngineSlate:
    first = min(FIRST_KNOWN, schema.num_items - 1)
    return EngineSlate(
        state,
        rng.integers(first, schema.num_items, schema.recent_length),
        _random_ids(schema.context_fields, 1, rng)[0],
        rng.integers(first, schema.num_items, num_candidates),
        _random_ids(schema.candidate_fields, num_candidates, rng),
    )


def _random_ids(fields: Sequence[Field], rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    sizes = np.array([field.size for field in fields], np.int64)
    return rng.integers(np.minimum(UNKNOWN, sizes - 1), sizes, (rows, len(fields)))


def _edge_slate(schema: FeatureSchema, state: State) -> EngineSlate:
    last = schema.num_items - 1
    items = np.array([UNKNOWN, last, UNKNOWN, PADDING], np.int64)
    return EngineSlate(
        state,
        np.zeros(0, np.int64),
        np.full(len(schema.context_fields), UNKNOWN, np.int64),
        items,
        np.full((len(items), len(schema.candidate_fields)), UNKNOWN, np.int64),
    )
