"""Times of exported graphs, measured in turn, for `bench` and `compare`.

Weights and inputs are random: the time does not depend on them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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
from models.contract.state_spec import RecordDtype, StateSpec

BLOCKS = (64, 256, 512, 1_024)
"""Block sizes, in candidates, that are tried for a graph that may score the slate in blocks."""
TRIED = 1_024
"""Candidates of the slate on which block sizes are tried."""
LARGEST_BYTES = 2 << 30
"""Limit of a graph's largest tensor in one run."""
ROUNDS = (5, 200)
"""Least and largest number of timed rounds."""
ENCODINGS = 25
SLATE = ("items", "candidate_fields")
"""Inputs of the score graph with an axis of candidates."""


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
        state_bytes: of the largest record, that of a user with a whole history, fp32.
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
    """A contender with open sessions: `score` scores a slate of `block`s, `encode` encodes the user once."""

    contender: Contender
    block: int
    score: Callable[[int], None]
    encode: Callable[[], None]


def make_contender(
    label: str, model: CtrModel, schema: FeatureSchema, candidate_bytes: int | None
) -> Contender:
    """Export a model."""
    # Two users and two candidates: tracing would take an axis of length 1 for a constant.
    graphs = build_graphs(model, random_batch(schema, 2, 2, np.random.default_rng(0)))
    return Contender(label, schema, model.state_spec(), graphs, candidate_bytes)


def time_in_turn(
    contenders: Sequence[Contender], slates: Sequence[int], threads: int, budget_s: float
) -> Iterator[list[GraphTimes]]:
    """Warm up, choose blocks, then time all in turn (A B C A B C …), so that a slow moment of the machine affects all.

    Args:
        contenders: models to time.
        slates: numbers of candidates; each yields the times of every model.
        threads: of the runtime.
        budget_s: seconds for the timed rounds of a slate.
    """
    ready = [_prepare(contender, max(slates), threads) for contender in contenders]
    encode_ms = [float(np.median(ms)) for ms in _in_turn([r.encode for r in ready], ENCODINGS)]
    for candidates in slates:
        runs = [partial(each.score, candidates) for each in ready]
        round_s = sum(
            map(_seconds, runs)
        )  # the first run of a shape allocates, so it counts here only
        rounds = int(np.clip(budget_s / round_s, *ROUNDS))
        spreads = [np.percentile(ms, [10, 50, 90]).tolist() for ms in _in_turn(runs, rounds)]
        yield [
            GraphTimes(
                min(each.block, candidates),
                rounds,
                median,
                p10,
                p90,
                ms,
                state_bytes(each.contender),
            )
            for each, (p10, median, p90), ms in zip(ready, spreads, encode_ms, strict=True)
        ]


def state_bytes(contender: Contender, dtype: RecordDtype = "fp32") -> int:
    """Bytes of a user's record in the cache."""
    recent = contender.schema.recent_length
    return record_bytes(contender.spec, dtype, USER_ID_BYTES, recent)


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
    tried = _first(feed, min(candidates, TRIED))
    block = _fastest_block(score, tried, contender.candidate_bytes) or candidates
    return _Ready(
        contender,
        block,
        lambda several: _score(score, _first(feed, several), block),
        lambda: _encode(encode, user),
    )


def _fastest_block(
    session: ort.InferenceSession, feed: Feed, candidate_bytes: int | None
) -> int | None:
    """The block size that scores a slate fastest; None: the whole slate in one run."""
    if candidate_bytes is None:
        return None
    candidates: int = feed["items"].shape[1]
    blocks = {min(block, candidates) for block in BLOCKS}
    fitting = [block for block in sorted(blocks) if block * candidate_bytes <= LARGEST_BYTES]
    seconds = {}
    for block in fitting:
        _score(session, feed, block)  # the first run of a shape allocates
        seconds[block] = _seconds(partial(_score, session, feed, block))
    return min(seconds, key=seconds.__getitem__)


def _first(feed: Feed, candidates: int) -> Feed:
    """The inputs with the slate's first candidates."""
    return {
        name: values[:, :candidates] if name in SLATE else values for name, values in feed.items()
    }


def _score(session: ort.InferenceSession, feed: Feed, block: int) -> None:
    slate = {name: feed[name] for name in SLATE if name in feed}
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
