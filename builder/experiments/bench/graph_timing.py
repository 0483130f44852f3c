"""Times of exported score graphs, measured in turn, for `bench` and `compare`.

Weights and inputs are random: the time does not depend on them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch

from builder.export.onnx import Graphs, build_graphs, slate_feed
from builder.export.session import Feed, kept_inputs, open_graph, user_feed
from models.base import CtrModel
from models.batch import Batch, Context, Slate, User
from models.contract.age import NUM_AGES
from models.contract.record import USER_ID_BYTES, record_bytes
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.contract.state_spec import StateSpec

BLOCKS = (64, 256, 512, 1_024)
"""Block sizes, in candidates, that are tried for a graph that may score the slate in blocks."""
LARGEST_BYTES = 2 << 30
"""Limit of a graph's largest tensor in one run."""
ROUNDS = (5, 200)
"""Least and largest number of timed rounds."""


@dataclass(frozen=True)
class Contender:
    """A model's two graphs.

    Attributes:
        label: of the model.
        schema: of its inputs.
        spec: of its state.
        graphs: exported.
        candidate_bytes: bytes of its largest tensor per candidate of a run; the slate is scored in the fastest blocks
            that fit. None: the whole slate in one run, as the service does.
    """

    label: str
    schema: FeatureSchema
    spec: StateSpec
    graphs: Graphs
    candidate_bytes: int | None


@dataclass(frozen=True)
class GraphTimes:
    """Times of a model's two graphs.

    Attributes:
        block: candidates per run.
        rounds: runs over the whole slate that were timed.
        median_ms: to score the slate of one user.
        p10_ms: of the rounds.
        p90_ms: of the rounds.
        encode_ms: median, to encode that user's history.
        state_bytes: of the user's record in the cache, fp32.
    """

    block: int
    rounds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    encode_ms: float
    state_bytes: int


@dataclass(frozen=True)
class _Ready:
    """A contender with open sessions: `score` scores the slate once, `encode` encodes the user once."""

    contender: Contender
    block: int
    score: Callable[[], None]
    encode: Callable[[], None]


def make_contender(
    label: str, model: CtrModel, schema: FeatureSchema, candidate_bytes: int | None
) -> Contender:
    """Export a model."""
    # Two users and two candidates: tracing would take an axis of length 1 for a constant.
    graphs = build_graphs(model, random_batch(schema, 2, 2, np.random.default_rng(0)))
    return Contender(label, schema, model.state_spec(), graphs, candidate_bytes)


def time_in_turn(
    contenders: Sequence[Contender], candidates: int, threads: int, budget_s: float
) -> Iterator[GraphTimes]:
    """Warm up, choose blocks, then time all in turn (A B C A B C …), so that a slow moment of the machine affects all.

    Args:
        contenders: models to time; each yields its times.
        candidates: in the slate.
        threads: of the runtime.
        budget_s: seconds for the timed rounds.
    """
    ready = [_prepare(contender, candidates, threads) for contender in contenders]
    round_s = sum(_seconds(each.score) for each in ready)
    rounds = int(np.clip(budget_s / round_s, *ROUNDS))
    score_ms = _in_turn([each.score for each in ready], rounds)
    encode_ms = _in_turn([each.encode for each in ready], ROUNDS[0])
    for timed, score, encode in zip(ready, score_ms, encode_ms, strict=True):
        p10, median, p90 = (float(value) for value in np.percentile(score, [10, 50, 90]))
        yield GraphTimes(
            timed.block,
            rounds,
            median,
            p10,
            p90,
            float(np.median(encode)),
            state_bytes(timed.contender),
        )


def state_bytes(contender: Contender) -> int:
    """Bytes of a user's record in the cache, fp32."""
    recent = contender.schema.recent_length
    return record_bytes(contender.spec, "fp32", USER_ID_BYTES, recent)


def _in_turn(runs: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    times = [[1e3 * _seconds(run) for run in runs] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def _seconds(run: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


def _prepare(contender: Contender, candidates: int, threads: int) -> _Ready:
    encode = open_graph(contender.graphs.encode, threads)
    score = open_graph(contender.graphs.score, threads)
    batch = random_batch(contender.schema, 1, candidates, np.random.default_rng(1))
    user = user_feed(batch.user)
    state = encode.run(None, kept_inputs(encode, user))
    names = [tensor.name for tensor in contender.spec]
    feed = dict(zip(names, state, strict=True)) | {
        "recent": batch.context.recent.numpy(),
        "context_fields": batch.context.fields.numpy(),
        **{name: values.numpy() for name, values in slate_feed(batch.slate).items()},
    }
    feed, user = kept_inputs(score, feed), kept_inputs(encode, user)
    block = _fastest_block(score, feed, contender.candidate_bytes)
    return _Ready(
        contender, block, lambda: _score(score, feed, block), lambda: _encode(encode, user)
    )


def _fastest_block(session: ort.InferenceSession, feed: Feed, candidate_bytes: int | None) -> int:
    candidates: int = feed["items"].shape[1]
    if candidate_bytes is None:
        _score(session, feed, candidates)
        return candidates
    blocks = {min(block, candidates) for block in (*BLOCKS, candidates)}
    fitting = [block for block in sorted(blocks) if block * candidate_bytes <= LARGEST_BYTES]
    seconds = {}
    for block in fitting:
        _score(session, feed, block)  # the first run of a shape allocates
        seconds[block] = _seconds(lambda chosen=block: _score(session, feed, chosen))  # type: ignore[misc]
    return min(seconds, key=seconds.__getitem__)


def _score(session: ort.InferenceSession, feed: Feed, block: int) -> None:
    slate = {name: feed[name] for name in ("items", "candidate_fields") if name in feed}
    for start in range(0, feed["items"].shape[1], block):
        piece: Feed = {name: values[:, start : start + block] for name, values in slate.items()}
        session.run(None, feed | piece)


def _encode(session: ort.InferenceSession, user: Feed) -> None:
    session.run(None, user)


def random_batch(
    schema: FeatureSchema, users: int, candidates: int, rng: np.random.Generator
) -> Batch:
    """Users with whole histories, and slates."""

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(min(FIRST_KNOWN, high - 1), high, shape))

    def draw_fields(fields: tuple[Field, ...]) -> torch.Tensor:
        columns = [draw(field.size, users, 1) for field in fields]
        return torch.cat([torch.zeros(users, 0, dtype=torch.int64), *columns], 1)

    items, given = schema.num_items, schema.candidate_fields
    placed = [draw(field.size, users, candidates, 1) for field in given]
    return Batch.unweighted(
        User(
            draw(items, users, schema.history_length),
            draw(NUM_AGES, users, schema.history_length),
            draw_fields(schema.user_fields),
        ),
        Context(draw(items, users, schema.recent_length), draw_fields(schema.context_fields)),
        Slate(
            draw(items, users, candidates),
            torch.cat([torch.zeros(users, candidates, 0, dtype=torch.int64), *placed], 2),
        ),
        torch.zeros(users, candidates),
        torch.ones(users, candidates, dtype=torch.bool),
    )
