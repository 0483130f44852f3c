"""A very small model as a real artifact, and its arithmetic in numpy.

interest = [Σ item[history], Σ profile[user_fields]]            length = events in the history
logit    = item[candidate] · (Σ interest + Σ item[recent]) + length / 10 + Σ context[context_fields]
           + Σ placement[candidate_fields], if the toy has candidate fields
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.contract.artifact import (
    ENCODE,
    SCORE,
    VOCABULARY,
    WEIGHTS,
    Artifact,
    Manifest,
    save_artifact,
)
from models.contract.calibration import CALIBRATION, Calibration, calibration_to_bytes
from models.contract.example_slate import EXAMPLE_SLATE, ExampleSlate
from models.contract.item_texts import ITEM_TEXTS, texts_to_bytes
from models.contract.prototypes import Prototypes
from models.contract.schema import UNKNOWN, FeatureSchema, Field
from models.contract.state_spec import StateSpec, TensorSpec
from models.contract.vocabulary import Vocabulary
from service.runtime.scorer import Slate

D = 4
SPEC = (TensorSpec("interest", (2, D)), TensorSpec("length", (1,)))
SPARSE_SPEC = (TensorSpec("interest", (2, D), filled="last"), TensorSpec("length", (1,)))
"""The same tensors, in records that leave empty rows out."""
ROWS_SPEC = TensorSpec("latest", (2,), "int32", ids="rows")
VOCABULARY_OF_TOYS = Vocabulary(
    items=[f"i{n}" for n in range(30)],
    user={"age": ["young", "old"]},
    context={"hour": ["day", "night"], "device": ["web", "app"]},
)
PLACEMENTS = {"display": ["front", "aisle", "3"], "mailer": ["cover", "inside", "none"]}
"""Candidate fields that a toy may have, and their values."""
SCHEMA = FeatureSchema(
    item_fields=(Field("item", 32),),
    user_fields=(Field("age", 4),),
    context_fields=(Field("hour", 4), Field("device", 4)),
    num_items=32,
    history_length=8,
    recent_length=3,
)
AS_OF_S = 1_500_000_000
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Toy:
    """One trained toy; another seed is another training.

    Attributes:
        context_names: the context fields that it has.
        candidate_names: the candidate fields that it has.
        texts: display texts of items; empty: the artifact has none.
        slate: example of a slate; None: the artifact has none.
        calibration: of the scores; None: the artifact has none.
        is_sparse: its records leave empty rows out.
        prototypes: rows for new items; None: it has none.
        keeps_rows: its states hold the catalogue rows of the latest two events too, which no score depends on.
    """

    seed: int = 0
    context_names: tuple[str, ...] = ("hour", "device")
    candidate_names: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    slate: ExampleSlate | None = field(default=None, hash=False)
    calibration: Calibration | None = None
    prototypes: Prototypes | None = field(default=None, hash=False)
    is_sparse: bool = False
    keeps_rows: bool = False

    @property
    def spec(self) -> StateSpec:
        spec = SPARSE_SPEC if self.is_sparse else SPEC
        return (*spec, ROWS_SPEC) if self.keeps_rows else spec

    @property
    def vocabulary(self) -> Vocabulary:
        known = VOCABULARY_OF_TOYS.context
        return replace(
            VOCABULARY_OF_TOYS,
            context={name: known[name] for name in self.context_names},
            candidate={name: PLACEMENTS[name] for name in self.candidate_names},
            prototypes=self.prototypes,
        )

    @property
    def schema(self) -> FeatureSchema:
        fields = tuple(one for one in SCHEMA.context_fields if one.name in self.context_names)
        given = tuple(Field(name, 5) for name in self.candidate_names)
        rows = SCHEMA.num_items + len(self.prototypes or ())
        return replace(SCHEMA, num_items=rows, context_fields=fields, candidate_fields=given)

    def table(self, kind: int, rows: int, width: int) -> Array:
        """Embeddings: row 0, the padding, is zero."""
        table = np.random.default_rng([self.seed, kind]).normal(0, 0.4, (rows, width))
        table[0] = 0
        return table.astype(np.float32)

    @property
    def item(self) -> Array:
        return self.table(0, self.schema.num_items, D)

    @property
    def profile(self) -> Array:
        return self.table(1, 4, D)

    @property
    def context(self) -> Array:
        return self.table(2, 4, 1)

    @property
    def placement(self) -> Array:
        return self.table(3, 5, 1)

    def state(self, history: Sequence[str], age: str | None = None) -> dict[str, Array]:
        rows = VOCABULARY_OF_TOYS.item_rows(history[-SCHEMA.history_length :])
        user = VOCABULARY_OF_TOYS.user_ids({} if age is None else {"age": age})
        interest = np.stack([self.item[rows].sum(0), self.profile[user].sum(0)])
        state: dict[str, Array] = {
            "interest": interest,
            "length": np.array([len(rows)], np.float32),
        }
        if self.keeps_rows:
            state["latest"] = np.concatenate([[0, 0], rows])[-2:].astype(np.int32)
        return state

    def scores(
        self,
        state: dict[str, Array],
        candidates: Sequence[str],
        recent: Sequence[str] = (),
        context: dict[str, object] | None = None,
        placed: Mapping[str, Sequence[str | None]] | None = None,
        new: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[float]:
        """Probabilities, as the service has to give them; `new` holds the fields of new items."""

        def item_rows(items: Sequence[str]) -> NDArray[np.int64]:
            rows = self.vocabulary.item_rows(items)
            found = [self.vocabulary.new_item_row((new or {}).get(item, {})) for item in items]
            return np.where(rows == UNKNOWN, np.array(found, np.int64), rows)

        query = state["interest"].sum(0) + self.item[item_rows(recent[-3:])].sum(0)
        bias = self.context[self.vocabulary.context_ids(context or {})].sum()
        logits = self.item[item_rows(candidates)] @ query + state["length"] / 10 + bias
        ids = self.vocabulary.candidate_ids(placed or {}, len(candidates))
        logits = logits + self.placement[ids].sum((1, 2))
        log_odds = logits.astype(np.float64)
        if self.calibration is not None:
            log_odds = self.calibration.log_odds(log_odds)
        return [float(p) for p in 1 / (1 + np.exp(-log_odds))]

    def save(self, root: Path, **changes: bytes) -> Artifact:
        """Write the artifact; `changes` replaces contents by name (without the suffix)."""
        contents = {
            WEIGHTS: b"",
            ENCODE: self.encode_graph(),
            SCORE: self.score_graph(),
            VOCABULARY: self.vocabulary.to_bytes(),
        }
        if self.texts:
            texts = [self.texts.get(item) for item in self.vocabulary.items]
            contents[ITEM_TEXTS] = texts_to_bytes(texts)
        if self.slate:
            contents[EXAMPLE_SLATE] = self.slate.to_bytes()
        if self.calibration:
            contents[CALIBRATION] = calibration_to_bytes(self.calibration)
        contents |= {f"{name}.onnx": content for name, content in changes.items()}
        report = {"test": {"auc": 0.75, "targets": 1200}, "seed": self.seed}
        manifest = Manifest(
            "toy", {}, self.schema, self.spec, report, {}, "unknown", 0.0, AS_OF_S, {}
        )
        return save_artifact(root, manifest, contents)

    def encode_graph(self) -> bytes:
        nodes = [
            helper.make_node("Gather", ["item", "history"], ["events"]),
            helper.make_node("ReduceSum", ["events", "axis1"], ["total"], keepdims=1),
            helper.make_node("Gather", ["profile", "user_fields"], ["fields"]),
            helper.make_node("ReduceSum", ["fields", "axis1"], ["who"], keepdims=1),
            helper.make_node("Concat", ["total", "who"], ["interest"], axis=1),
            helper.make_node("Cast", ["history"], ["rows"], to=TensorProto.FLOAT),
            helper.make_node("Sign", ["rows"], ["real"]),
            helper.make_node("ReduceSum", ["real", "axis1"], ["length"], keepdims=1),
        ]
        inputs = [_ints("history", "L"), _ints("user_fields", "Fu")]
        outputs = [_floats("interest", 2, D), _floats("length", 1)]
        if self.keeps_rows:
            nodes += _latest()
            outputs.append(helper.make_tensor_value_info("latest", TensorProto.INT32, ["B", 2]))
        return _graph(nodes, inputs, outputs, {"item": self.item, "profile": self.profile})

    def score_graph(self, context_weight: float = 1.0) -> bytes:
        nodes = [
            helper.make_node("ReduceSum", ["interest", "axis1"], ["who"], keepdims=1),
            helper.make_node("Gather", ["item", "recent"], ["events"]),
            helper.make_node("ReduceSum", ["events", "axis1"], ["lately"], keepdims=1),
            helper.make_node("Add", ["who", "lately"], ["query"]),
            helper.make_node("Gather", ["item", "items"], ["candidates"]),
            helper.make_node("Mul", ["candidates", "query"], ["products"]),
            helper.make_node("ReduceSum", ["products", "axis2"], ["dots"], keepdims=0),
            helper.make_node("Gather", ["context", "context_fields"], ["fields"]),
            helper.make_node("ReduceSum", ["fields", "axis1"], ["where"], keepdims=0),
            helper.make_node("Mul", ["length", "tenth"], ["history_bias"]),
            helper.make_node("Add", ["dots", "where"], ["in_context"]),
            helper.make_node("Add", ["in_context", "history_bias"], ["unplaced"]),
        ]
        inputs = [
            _floats("interest", 2, D),
            _floats("length", 1),
            _ints("recent", "N"),
            _ints("context_fields", "Fc"),
            _ints("items", "C"),
        ]
        nodes += _placed() if self.candidate_names else [_identity("unplaced", "logits")]
        if self.candidate_names:
            inputs.append(_ints("candidate_fields", "C", len(self.candidate_names)))
        tables = {
            "item": self.item,
            "placement": self.placement,
            "context": self.context * np.float32(context_weight),
            "tenth": np.array([0.1], np.float32),
        }
        return _graph(nodes, inputs, [_floats("logits", "C")], tables)


def _latest():
    return [
        helper.make_node("Cast", ["history"], ["history32"], to=TensorProto.INT32),
        helper.make_node("Slice", ["history32", "minus2", "end", "axis1"], ["latest"]),
    ]


def _placed():
    return [
        helper.make_node("Gather", ["placement", "candidate_fields"], ["given"]),
        helper.make_node("ReduceSum", ["given", "axes23"], ["place"], keepdims=0),
        helper.make_node("Add", ["unplaced", "place"], ["logits"]),
    ]


def _identity(name: str, output: str):
    return helper.make_node("Identity", [name], [output])


def slate_of(toy: Toy, history: Sequence[str], candidates: Sequence[str]) -> Slate:
    """A slate of a user with that history, who is on the site by day."""
    context = VOCABULARY_OF_TOYS.context_ids({"hour": "day"})
    return Slate(toy.state(history), history, np.zeros(0, np.int64), context, candidates, {}, {})


def bare_score_graph(bias: float = 0.0) -> bytes:
    """A graph that takes the candidates only: exporters drop the inputs that are not used."""
    nodes = [
        helper.make_node("Cast", ["items"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "bias"], ["logits"]),
    ]
    tables = {"bias": np.array([bias], np.float32)}
    return _graph(nodes, [_ints("items", "C")], [_floats("logits", "C")], tables)


def listed_score_graph(logits: Sequence[float] | Array) -> bytes:
    """A graph that looks up the logit of a candidate's row: what it gives is known, and it fails beyond the list."""
    nodes = [helper.make_node("Gather", ["listed", "items"], ["logits"])]
    tables = {"listed": np.array(logits, np.float32)}
    return _graph(nodes, [_ints("items", "C")], [_floats("logits", "C")], tables)


def state_score_graph(logits: Sequence[float]) -> bytes:
    """A graph that looks up one logit for all candidates by the state's length, and fails beyond the list."""
    nodes = [
        helper.make_node("Cast", ["length"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["listed", "row"], ["logit"]),
        helper.make_node("Cast", ["items"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "logit"], ["logits"]),
    ]
    tables = {"listed": np.array(logits, np.float32), "nothing": np.zeros(1, np.float32)}
    inputs = [_floats("length", 1), _ints("items", "C")]
    return _graph(nodes, inputs, [_floats("logits", "C")], tables)


def outside_score_graph(location: str = "outside.bin") -> bytes:
    """A graph whose logits lie in another file: 64 float32, one for each row of the catalogue."""
    listed = numpy_helper.from_array(np.zeros(64, np.float32), "listed")
    listed.ClearField("raw_data")
    listed.data_location = TensorProto.EXTERNAL
    entry = listed.external_data.add()
    entry.key, entry.value = "location", location
    nodes = [helper.make_node("Gather", ["listed", "items"], ["logits"])]
    return _model(nodes, [_ints("items", "C")], [_floats("logits", "C")], [listed])


def _graph(nodes, inputs, outputs, tables: dict[str, Array]) -> bytes:
    axes: dict[str, NDArray[Any]] = {f"axis{n}": np.array([n], np.int64) for n in (1, 2)}
    axes["axes23"] = np.array([2, 3], np.int64)
    axes |= {"minus2": np.array([-2], np.int64), "end": np.array([2**31], np.int64)}
    constants = [numpy_helper.from_array(value, name) for name, value in {**tables, **axes}.items()]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes, inputs, outputs, constants: list[TensorProto]) -> bytes:
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opset)
    return bytes(model.SerializeToString())


def _ints(name: str, *axes: int | str):
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["B", *axes])


def _floats(name: str, *axes: int | str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *axes])
