"""One size of the benchmark: graphs, inputs, and timings taken in turn."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from builder.export import Feed, Graphs, build_graphs, open_graph, user_feed
from models.age import NUM_AGES
from models.batch import Batch, Context, Slate, User
from models.record import StateSpec, record_bytes
from models.registry import build_model
from models.schema import FIRST_KNOWN, FeatureSchema, Field

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LREA, position slots": ("lrea", {"slots": "position"}),
    "LREA, hash slots": ("lrea", {"slots": "hash"}),
    "DIN": ("din", {}),
    "no long history": ("din", {"long": False}),
}
"""Label -> model of the registry and its options."""
NUM_ITEMS = 4_000
RECENT = 32
HIDDEN = 32
BLOCKS = (64, 256, 512, 1_024)
"""DIN may take the slate in blocks of so many candidates, if that is faster than the whole slate at once."""
LARGEST_BYTES = 2 << 30
"""Of DIN's hidden activations [C, L·h] in one run; there are two such tensors."""
ROUNDS = (5, 200)
"""At least, at most."""
USER_ID_BYTES = 16


@dataclass(frozen=True)
class Size:
    """L, C (candidates; B in the paper), r, d."""

    length: int
    candidates: int
    rank: int
    dim: int


@dataclass(frozen=True)
class Timing:
    """One model at one size.

    Attributes:
        model: label.
        size: of the case.
        threads: of the runtime.
        block: candidates per run.
        rounds: runs over the whole slate that were timed.
        median_ms: to score the slate of one user.
        p10_ms: of the rounds.
        p90_ms: of the rounds.
        encode_ms: median, to encode that user's history.
        state_bytes: of the user's record in the cache, fp32.
    """

    model: str
    size: Size
    threads: int
    block: int
    rounds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    encode_ms: float
    state_bytes: int


@dataclass(frozen=True)
class Contender:
    """A model's two graphs and one user."""

    label: str
    schema: FeatureSchema
    spec: StateSpec
    graphs: Graphs


@dataclass(frozen=True)
class _Ready:
    """A contender with open sessions: `score` scores the slate once, `encode` encodes the user once."""

    contender: Contender
    block: int
    score: Callable[[], None]
    encode: Callable[[], None]


def build_contender(label: str, size: Size) -> Contender:
    """Export a model with random weights."""
    name, options = CONTENDERS[label]
    schema = _schema(size.length)
    field_dim = size.dim // 4
    config = {"item_dim": size.dim - 2 * field_dim, "field_dim": field_dim, "hidden": HIDDEN}
    config |= options | ({"rank": size.rank} if name == "lrea" else {})
    rng = np.random.default_rng(0)
    columns = [rng.integers(FIRST_KNOWN, field.size, NUM_ITEMS) for field in schema.item_fields]
    columns[0] = np.arange(NUM_ITEMS)
    model = build_model(name, schema, torch.from_numpy(np.stack(columns, 1)), config).eval()
    # Two of each, so that tracing does not take an axis of one for a constant.
    graphs = build_graphs(model, _batch(schema, 2, rng))
    return Contender(label, schema, model.state_spec(), graphs)


def time_together(
    contenders: Sequence[Contender], size: Size, threads: int, budget_s: float
) -> Iterator[Timing]:
    """Warm up, choose blocks, then time all in turn (A B C A B C …), so that a slow moment of the machine hits all."""
    ready = [_prepare(contender, size, threads) for contender in contenders]
    lap_s = sum(_seconds(one.score) for one in ready)
    rounds = int(np.clip(budget_s / lap_s, *ROUNDS))
    score_ms = _in_turn([one.score for one in ready], rounds)
    encode_ms = _in_turn([one.encode for one in ready], ROUNDS[0])
    for one, score, encode in zip(ready, score_ms, encode_ms, strict=True):
        p10, median, p90 = np.percentile(score, [10, 50, 90])
        yield Timing(
            one.contender.label, size, threads, one.block, rounds, float(median), float(p10),
            float(p90), float(np.median(encode)), record_bytes(one.contender.spec, "fp32", USER_ID_BYTES, RECENT),
        )  # fmt: skip


def _in_turn(runs: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    times = [[1e3 * _seconds(run) for run in runs] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def _seconds(run: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


def _prepare(contender: Contender, size: Size, threads: int) -> _Ready:
    encode = open_graph(contender.graphs.encode, threads)
    score = open_graph(contender.graphs.score, threads)
    batch = _batch(contender.schema, 1, np.random.default_rng(1), size.candidates)
    user = user_feed(batch.user)
    state = encode.run(None, _kept(encode, user))
    names = [tensor.name for tensor in contender.spec]
    feed = dict(zip(names, state, strict=True)) | {
        "recent": batch.context.recent.numpy(),
        "context_fields": batch.context.fields.numpy(),
        "items": batch.slate.items.numpy(),
    }
    feed, user = _kept(score, feed), _kept(encode, user)
    block = _fastest_block(score, feed, contender, size)
    return _Ready(
        contender, block, lambda: _score(score, feed, block), lambda: _encode(encode, user)
    )


def _fastest_block(
    session: ort.InferenceSession, feed: Feed, contender: Contender, size: Size
) -> int:
    """Candidates per run: the whole slate as the service does, but for DIN whatever is fastest and fits."""
    if contender.label != "DIN":
        _score(session, feed, size.candidates)
        return size.candidates
    one_bytes = 4 * size.length * HIDDEN
    blocks = {min(block, size.candidates) for block in (*BLOCKS, size.candidates)}
    fitting = [block for block in sorted(blocks) if block * one_bytes <= LARGEST_BYTES]
    seconds = {}
    for block in fitting:
        _score(session, feed, block)  # the first run of a shape allocates
        seconds[block] = _seconds(lambda chosen=block: _score(session, feed, chosen))  # type: ignore[misc]
    return min(seconds, key=seconds.__getitem__)


def _score(session: ort.InferenceSession, feed: Feed, block: int) -> None:
    items = feed["items"]
    for start in range(0, items.shape[1], block):
        session.run(None, {**feed, "items": items[:, start : start + block]})


def _encode(session: ort.InferenceSession, user: Feed) -> None:
    session.run(None, user)


def _kept(session: ort.InferenceSession, feed: Mapping[str, Any]) -> Feed:
    kept = {node.name for node in session.get_inputs()}
    return {name: values for name, values in feed.items() if name in kept}


def _schema(length: int) -> FeatureSchema:
    return FeatureSchema(
        item_fields=(Field("item", NUM_ITEMS), Field("category", 64), Field("popularity", 16)),
        user_fields=(Field("age", 8),),
        context_fields=(Field("hour", 26),),
        num_items=NUM_ITEMS,
        history_length=length,
        recent_length=RECENT,
    )


def _batch(
    schema: FeatureSchema, users: int, rng: np.random.Generator, candidates: int = 2
) -> Batch:
    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(FIRST_KNOWN, high, shape))

    items = schema.num_items
    return Batch(
        User(
            draw(items, users, schema.history_length),
            draw(NUM_AGES, users, schema.history_length),
            draw(8, users, 1),
        ),
        Context(draw(items, users, schema.recent_length), draw(26, users, 1)),
        Slate(draw(items, users, candidates)),
        torch.zeros(users, candidates),
        torch.ones(users, candidates, dtype=torch.bool),
    )
