"""Response bodies as dicts, in the form that `schemas.py` documents. Not validated: slates are long."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from models.contract.record import record_bytes
from models.contract.schema import FIRST_KNOWN, Field
from models.contract.state_spec import Array
from models.contract.vocabulary import Vocabulary
from service.experiments.ranking import best, ranks
from service.generations.serving import Serving
from service.http.schemas import ComparedModel
from service.query import Scores, StoredUser, timings_ms
from service.runtime.engines.choose import Choice
from service.scoring.comparison import Comparison
from service.state.follow import Freshness
from service.status import text_of

Json = dict[str, object]
Timings = Mapping[str, float]
"""Stage -> milliseconds; `timings_ms` makes them."""


def score_answer(
    answer: Scores, top_k: int | None, timings: Timings, freshness: Freshness | None = None
) -> Json:
    """Make a `ScoreResponse`.

    Args:
        answer: the scores.
        top_k: how many candidates to list; None gives every score.
        timings: the stages in milliseconds, with their sum.
        freshness: how far the model's states are behind; None: no worker follows it.
    """
    found, generation = answer.found, answer.generation
    return {
        "model": generation.model,
        "generation": generation.name,
        "artifact_id": generation.artifact_id,
        "user_id": answer.query.user_id,
        "state": {"source": found.source, "tier": found.tier, "as_of_s": found.as_of_s},
        "freshness": freshness,
        "degraded": found.reason is not None,
        "degraded_reason": found.reason,
        "scores": answer.scores if top_k is None else None,
        "ranked": None if top_k is None else ranked(answer, top_k),
        "unknown_candidates": answer.unknown_candidates,
        "new_items": answer.new_items,
        "unknown_candidate_fields": answer.unknown_fields,
        "unknown_context": answer.unknown_context,
        "timings_ms": timings,
    }


def ranked(answer: Scores, top_k: int) -> list[Json]:
    """List the best candidates, best first; ties in the order of the request."""
    order = best(answer.scores, top_k)
    listed = zip(order.tolist(), answer.scores[order].tolist(), strict=True)
    return [{"item": answer.query.candidates[at], "score": score} for at, score in listed]


def comparison_answer(comparison: Comparison, top_k: int | None, timings: Timings) -> Json:
    """Make a `CompareResponse`."""
    outcomes = comparison.outcomes.items()
    return {
        "user_id": comparison.query.user_id,
        "top_k": comparison.top_k,
        "models": [_compared(comparison, name, outcome, top_k) for name, outcome in outcomes],
        "agreement": [
            {"models": pair.models, "kendall_tau": pair.kendall_tau, "overlap": pair.overlap}
            for pair in comparison.agreements
        ],
        "timings_ms": timings,
    }


def _compared(
    comparison: Comparison, name: str, outcome: Scores | Exception, top_k: int | None
) -> Json:
    """Make a `ComparedModel`: the fields of `score_answer`, and ranks."""
    empty: Json = dict.fromkeys(ComparedModel.model_fields)
    if isinstance(outcome, Exception):
        return {**empty, "model": name, "error": text_of(outcome)}
    answer = score_answer(outcome, comparison.top_k, timings_ms(outcome.stages))
    sent, known = comparison.query, outcome.query
    return {
        **{field: answer.get(field) for field in empty},
        "scores": outcome.scores if top_k is None else None,
        "ranked": _with_ranks(cast(list[Json], answer["ranked"])),
        "ignored_context": [name for name in sent.context if name not in known.context],
        "ignored_candidate_fields": [
            name for name in sent.candidate_fields if name not in known.candidate_fields
        ],
    }


def _with_ranks(listed: list[Json]) -> list[Json]:
    positions = ranks(np.array([item["score"] for item in listed])).tolist()
    return [{"rank": rank, **item} for rank, item in zip(positions, listed, strict=True)]


def server_timing(timings: Timings) -> str:
    """Make the value of a Server-Timing header."""
    return ", ".join([f"{stage};dur={took_ms}" for stage, took_ms in timings.items()])


def model_answer(serving: Serving, is_default: bool) -> Json:
    """Make a `ModelInfo`."""
    generation, artifact = serving.generation, serving.artifact
    manifest = artifact.manifest
    schema, spec = manifest.schema, manifest.state_spec
    return {
        "name": generation.model,
        "default": is_default,
        "generation": generation.name,
        "artifact_id": generation.artifact_id,
        "num_users": generation.num_users,
        "as_of_s": generation.as_of_s,
        "created_s": generation.created_s,
        "record_dtype": generation.dtype,
        "record_bytes": record_bytes(spec, generation.dtype, 0, schema.recent_length),
        "state": [{"name": tensor.name, "shape": tensor.shape} for tensor in spec],
        "engine": _engine(serving.scorer.choice),
        "calibration": serving.scorer.calibration,
        "history_length": schema.history_length,
        "recent_length": schema.recent_length,
        "num_items": artifact.vocabulary.first_prototype,
        "num_prototypes": schema.num_items - artifact.vocabulary.first_prototype,
        "item_fields": _names(schema.item_fields),
        "user_fields": _names(schema.user_fields),
        "context_fields": _names(schema.context_fields),
        "candidate_fields": _names(schema.candidate_fields),
        "report": manifest.report,
    }


def _engine(choice: Choice) -> Json:
    """Make an `EngineInfo`."""
    return {
        "name": choice.engine.name,
        "device": choice.engine.device,
        "reason": choice.reason,
        "refused": dict(choice.refused),
    }


def user_answer(stored: StoredUser) -> Json:
    """Make a `UserResponse`."""
    generation, record = stored.serving.generation, stored.record
    vocabulary = stored.serving.artifact.vocabulary
    return {
        "user_id": stored.user_id,
        "model": generation.model,
        "generation": generation.name,
        "artifact_id": generation.artifact_id,
        "num_bytes": stored.num_bytes,
        "as_of_s": record and record.as_of_s,
        "recent": [_raw_id(vocabulary, row) for row in record.recent] if record else [],
        "tensors": [
            {"name": name, "shape": tensor.shape, "norm": _norm(tensor)}
            for name, tensor in (record.state.items() if record else ())
        ],
        "problem": stored.problem,
    }


def _norm(tensor: Array) -> float:
    # In float64: the squares of large float32 numbers overflow.
    return float(np.linalg.norm(tensor.ravel().astype(np.float64)))


def _raw_id(vocabulary: Vocabulary, row: int) -> str | None:
    is_item = FIRST_KNOWN <= row < vocabulary.first_prototype
    return vocabulary.items[row - FIRST_KNOWN] if is_item else None


def _names(fields: tuple[Field, ...]) -> list[str]:
    return [field.name for field in fields]
