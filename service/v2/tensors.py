"""Models as tensors: input tensors become queries, scores become output tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import RequestError, did_you_mean
from models.contract.field_reader import BooleanReader, KindReader
from models.contract.vocabulary import Vocabulary, check_ids
from service.query import Query, Scores
from service.settings import Settings
from service.transport.deadline import deadline_after
from service.v2.codec import short
from service.v2.limits import CANDIDATES, MAX_USERS, RECENT, USER_ID
from service.v2.messages import BYTES, InferRequest, InferTensor, Parameters, TensorMetadata

REQUIRED = (USER_ID, CANDIDATES)
SCORES, STATE_SOURCE, UNKNOWN, GENERATION = "scores", "state_source", "unknown", "generation"
NEW = "new"
OUTPUTS = (
    TensorMetadata(SCORES, "FP32", (-1,)),
    TensorMetadata(STATE_SOURCE, BYTES, (1,)),
    TensorMetadata(UNKNOWN, "BOOL", (-1,)),
    TensorMetadata(GENERATION, BYTES, (1,)),
    TensorMetadata(NEW, "BOOL", (-1,)),
)
CHUNK = 4096
"""Numbers turned into ids at once: other threads get no turn meanwhile."""


def inputs_of(vocabulary: Vocabulary) -> tuple[TensorMetadata, ...]:
    """Inputs of a model: ids, context fields, candidate fields.

    Integer datatypes are accepted as well: the number 7 is the id, or the value, `7`. Numeric and
    date fields accept FP32 and FP64, too, where NaN is a missing value, and boolean fields BOOL.
    """
    return (
        TensorMetadata(USER_ID, BYTES, (1,)),
        TensorMetadata(CANDIDATES, BYTES, (-1,)),
        TensorMetadata(RECENT, BYTES, (-1,), is_optional=True),
        *(TensorMetadata(name, BYTES, (1,), is_optional=True) for name in vocabulary.context),
        *(TensorMetadata(name, BYTES, (-1,), is_optional=True) for name in vocabulary.candidate),
    )


def queries_of(request: InferRequest, vocabulary: Vocabulary, settings: Settings) -> list[Query]:
    """Make one query for each user.

    Shapes for one user: `user_id` [1], `candidates` [C]. For several: `user_id` [B] or [B, 1], `candidates` [B, C],
    `recent` [B, N] and each context field [B] or [B, 1]. A candidate field has the shape of `candidates`.

    Args:
        request: a request with `user_id` and `candidates` among its inputs.
        vocabulary: the model's; it names the context and candidate fields.
        settings: limits of deadlines.

    Raises:
        RequestError: naming the input, what came and what was expected.
    """
    _check_outputs(request)
    known = (*REQUIRED, RECENT, *vocabulary.context, *vocabulary.candidate)
    inputs = _by_name(request.inputs, known)
    users = _ids(inputs[USER_ID])
    if not 1 <= len(users) <= MAX_USERS:
        raise RequestError(_field(USER_ID), len(users), f"1 to {MAX_USERS} user ids")
    num_users = len(users)
    _check_column(inputs[USER_ID], num_users)
    candidates = _rows(inputs[CANDIDATES], num_users)
    recent = _rows(inputs[RECENT], num_users) if RECENT in inputs else [None] * num_users
    contexts = _contexts(_values_of(inputs, vocabulary, "context"), num_users)
    fields = _candidate_fields(
        _values_of(inputs, vocabulary, "candidate"), inputs[CANDIDATES].shape, num_users
    )
    timeout_us = _whole_number(request.parameters, "timeout", "0 or more microseconds")
    deadline = deadline_after(settings, timeout_us / 1e6 if timeout_us else None)
    priority = _whole_number(request.parameters, "priority", "0 or more")
    return [
        Query(
            user,
            candidates[at],
            request.model,
            recent[at],
            contexts[at],
            fields[at],
            deadline,
            priority,
        )
        for at, user in enumerate(users)
    ]


def outputs_of(request: InferRequest, answers: Sequence[Scores]) -> tuple[InferTensor, ...]:
    """Make the requested outputs, from one answer for each user."""
    shape = next(tensor.shape for tensor in request.inputs if tensor.name == CANDIDATES)
    names = [output.name for output in request.outputs or OUTPUTS]
    return tuple(_output(name, answers, shape) for name in names)


def _output(name: str, answers: Sequence[Scores], shape: tuple[int, ...]) -> InferTensor:
    match name:
        case "scores":
            scores = np.concatenate([answer.scores for answer in answers]).astype(np.float32)
            return InferTensor(name, "FP32", shape, scores)
        case "unknown":
            found = [_are_among(answer, answer.unknown_candidates) for answer in answers]
            return InferTensor(name, "BOOL", shape, np.concatenate(found))
        case "new":
            found = [_are_among(answer, answer.new_items) for answer in answers]
            return InferTensor(name, "BOOL", shape, np.concatenate(found))
        case "state_source":
            sources = [answer.found.source for answer in answers]
            return InferTensor(name, BYTES, (len(sources),), sources)
        case _:
            names = [answer.generation.name for answer in answers]
            return InferTensor(name, BYTES, (len(names),), names)


def _are_among(answer: Scores, some: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.bool]]":
    candidates, those = answer.query.candidates, set(some)
    if not those:
        return np.zeros(len(candidates), np.bool)
    return np.fromiter((item in those for item in candidates), np.bool, len(candidates))


def _whole_number(parameters: Parameters, name: str, expected: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise RequestError(f"parameters.{name}", short(value), expected)
    return value


def _check_outputs(request: InferRequest) -> None:
    known = [output.name for output in OUTPUTS]
    names = [output.name for output in request.outputs]
    for name in names:
        if name not in known:
            expected = f"one of {', '.join(known)}{did_you_mean(name, known)}"
            raise RequestError("outputs", short(name), expected)
    if len(set(names)) < len(names):
        raise RequestError("outputs", names, "each name once")


def _by_name(inputs: Sequence[InferTensor], known: Sequence[str]) -> Mapping[str, InferTensor]:
    named = {tensor.name: tensor for tensor in inputs}
    for name in named:
        if name not in known:
            expected = f"one of {', '.join(known)}{did_you_mean(name, known)}"
            raise RequestError("inputs", short(name), expected)
    if len(named) < len(inputs):
        raise RequestError("inputs", [tensor.name for tensor in inputs], "each name once")
    for name in REQUIRED:
        if name not in named:
            raise RequestError("inputs", list(named), f"an input {name!r}")
    return named


def _ids(tensor: InferTensor) -> list[str]:
    field = _field(tensor.name)
    if isinstance(tensor.data, np.ndarray):
        if tensor.data.dtype.kind not in "iu":
            raise RequestError(f"{field}.datatype", tensor.datatype, "BYTES or INT64")
        return _as_texts(tensor.data)
    ids = list(tensor.data)
    check_ids(field, ids)
    return ids


def _rows(tensor: InferTensor, num_users: int) -> list[list[str]]:
    ids, shape = _ids(tensor), tensor.shape
    is_right = (len(shape) == 1 and num_users == 1) or (len(shape) == 2 and shape[0] == num_users)
    if not is_right:
        flat = "[-1] or " if num_users == 1 else ""
        expected = f"{flat}[{num_users}, -1]: a row for each user"
        raise RequestError(f"{_field(tensor.name)}.shape", list(shape), expected)
    width = shape[-1]
    return [ids[at * width : (at + 1) * width] for at in range(num_users)]


def _check_column(tensor: InferTensor, num_users: int) -> None:
    if tensor.shape not in ((num_users,), (num_users, 1)):
        expected = f"[{num_users}] or [{num_users}, 1]: a value for each user"
        raise RequestError(f"{_field(tensor.name)}.shape", list(tensor.shape), expected)


def _values_of(
    inputs: Mapping[str, InferTensor], vocabulary: Vocabulary, kind: Literal["context", "candidate"]
) -> dict[str, tuple[InferTensor, list[str]]]:
    """Field of one kind -> its tensor, and its values as texts."""
    names = vocabulary.context if kind == "context" else vocabulary.candidate
    readers = vocabulary.readers.get(kind, {})
    return {
        name: (inputs[name], _values(inputs[name], readers.get(name)))
        for name in names
        if name in inputs
    }


def _contexts(
    tensors: Mapping[str, tuple[InferTensor, list[str]]], num_users: int
) -> list[dict[str, object]]:
    contexts: list[dict[str, object]] = [{} for _ in range(num_users)]
    for name, (tensor, values) in tensors.items():
        _check_column(tensor, num_users)
        for context, value in zip(contexts, values, strict=True):
            context[name] = value
    return contexts


def _candidate_fields(
    tensors: Mapping[str, tuple[InferTensor, list[str]]], shape: tuple[int, ...], num_users: int
) -> list[dict[str, list[str | None]]]:
    """Candidate field -> the value of each candidate, for each user."""
    fields: list[dict[str, list[str | None]]] = [{} for _ in range(num_users)]
    width = shape[-1]
    for name, (tensor, values) in tensors.items():
        if tensor.shape != shape:
            expected = f"{list(shape)}, the shape of {_field(CANDIDATES)}: a value for each"
            raise RequestError(f"{_field(name)}.shape", list(tensor.shape), expected)
        for at, its_fields in enumerate(fields):
            its_fields[name] = [*values[at * width : (at + 1) * width]]
    return fields


def _values(tensor: InferTensor, reader: KindReader | None) -> list[str]:
    """Values of a context or candidate field; any text may be one."""
    if not isinstance(tensor.data, np.ndarray):
        return list(tensor.data)
    kinds, expected = "iuf", "BYTES, INT64 or FP64"
    if reader is None:
        kinds, expected = "iu", "BYTES or INT64"
    elif isinstance(reader, BooleanReader):
        kinds, expected = "iub", "BYTES, INT64 or BOOL"
    if tensor.data.dtype.kind not in kinds:
        raise RequestError(f"{_field(tensor.name)}.datatype", tensor.datatype, expected)
    return _as_texts(tensor.data)


def _as_texts(numbers: NDArray[Any]) -> list[str]:
    starts = range(0, len(numbers), CHUNK)
    if (
        numbers.dtype.kind == "f"
    ):  # numpy writes 0.1 of an FP32 as 0.1, tolist as 0.10000000149011612
        return [text for at in starts for text in numbers[at : at + CHUNK].astype(str).tolist()]
    return [text for at in starts for text in map(str, numbers[at : at + CHUNK].tolist())]


def _field(name: str) -> str:
    return f"inputs[{name}]"
