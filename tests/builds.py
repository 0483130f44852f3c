"""Small builds for tests, each made once and only when a test asks for it: training and export cost seconds."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from builder.checkpoint import Checkpoint
from builder.dataset.batches import BatchSource
from builder.dataset.parts import batch_source, part_slates
from builder.export.onnx import export
from builder.ingest.events import Events
from builder.ingest.pools import Pools
from builder.ingest.run import ingest
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe, load_recipe
from builder.train.train import train
from models.batch import Batch
from models.contract.artifact import Artifact, load_artifact
from models.contract.schema import FIRST_KNOWN, Field
from tests.cases import Case

RECIPE = Path(__file__).parent.parent / "builder" / "recipes" / "tiny.toml"
AGES = ["young", "old"]
PLACEMENTS = {"display": ["front", "aisle", "3"], "mailer": ["cover", "inside"]}
"""Candidate fields of the log with pools."""
POOL_SIZE = 20
STEPS = 30
REQUEST_GAP_S = 5_000
"""In every manifest, so that whoever forgets it makes other states."""
SAMPLE_SLATES = 4
"""Slates that the graphs are traced with; tests feed them other numbers."""


def small_recipe() -> Recipe:
    """The tiny recipe, smaller still: most histories are longer than L."""
    recipe = load_recipe(RECIPE)
    size = replace(recipe.data.synthetic, users=60)
    return replace(
        recipe,
        data=replace(recipe.data, synthetic=size),
        history=replace(recipe.history, length=24, recent=4),
        # A rate at which a dozen steps keep scores of users and candidates well apart.
        train=replace(
            recipe.train, steps=STEPS, validate_every=STEPS, threads=1, learning_rate=0.05
        ),
    )


def with_profiles(events: Events) -> Events:
    """The log with a profile field, which the synthetic source does not have."""
    ages = np.random.default_rng(0).integers(1, FIRST_KNOWN + len(AGES), (events.num_users, 1))
    fields = (Field("age", FIRST_KNOWN + len(AGES)),)
    return replace(
        events,
        user_fields=ages.astype(np.int32),
        schema=replace(events.schema, user_fields=fields),
        vocabulary=replace(events.vocabulary, user={"age": AGES}),
    )


def with_placed_pools(events: Events) -> Events:
    """The log with pools, whose candidates have two fields: each request's pool holds its items and others."""
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(events.num_users), np.diff(events.offsets))
    _, request = np.unique(np.stack([user, events.ts_s]), axis=1, return_inverse=True)
    sizes = [len(values) + FIRST_KNOWN for values in PLACEMENTS.values()]
    items = np.arange(FIRST_KNOWN, events.schema.num_items)
    pools = [
        np.union1d(rng.choice(items, POOL_SIZE, replace=False), events.item[request == one])
        for one in range(request.max() + 1)
    ]
    item = np.concatenate(pools).astype(np.int32)
    first = np.cumsum([0, *map(len, pools)]).astype(np.int64)
    # Ids begin at 1, the unknown value.
    fields = rng.integers(1, sizes, (len(item), len(sizes))).astype(np.uint8)
    schema_fields = tuple(Field(*one) for one in zip(PLACEMENTS, sizes, strict=True))
    return replace(
        events,
        label=np.ones_like(events.label),
        has_impressions=False,
        event_pool=request.reshape(-1).astype(np.int32),
        pools=Pools(first, item, fields),
        schema=replace(events.schema, candidate_fields=schema_fields),
        vocabulary=replace(events.vocabulary, candidate=PLACEMENTS),
    )


@dataclass
class Builds:
    """The checkpoint and the artifact of each case.

    Attributes:
        artifacts: folder of all artifacts, shared by the processes that run tests.
        events: the log that all cases are trained on.
    """

    artifacts: Path
    events: Events = field(default_factory=lambda: with_profiles(ingest(small_recipe())))
    _checkpoints: dict[Case, Checkpoint] = field(default_factory=dict)
    _artifacts: dict[Case, Artifact] = field(default_factory=dict)

    def recipe(self, case: Case) -> Recipe:
        """What a case is built from."""
        return replace(
            small_recipe(), serve_as=str(case), model=ModelChoice(case.model, case.config)
        )

    def source(self, case: Case) -> BatchSource:
        """Batches of the training period."""
        return batch_source(self.events, self.recipe(case), "train")

    def batch(self, case: Case, slates: int = SAMPLE_SLATES) -> Batch:
        """The last slates of the training period, whose histories are the longest."""
        found = part_slates(self.events, self.recipe(case), "train")
        latest = np.argsort(self.events.ts_s[found.first])[-slates:]
        return self.source(case).batch(found, latest, np.random.default_rng(0))[0]

    def checkpoint(self, case: Case) -> Checkpoint:
        """A model trained for a few steps."""
        if case not in self._checkpoints:
            vectors = self._vectors(case.config.get("llm_dim", 0))
            self._checkpoints[case] = train(self.events, self.recipe(case), vectors=vectors)
        return self._checkpoints[case]

    def _vectors(self, dim: int) -> torch.Tensor | None:
        """Field vectors, with random numbers in place of a language model's."""
        schema = self.events.schema
        kinds = (schema.user_fields, schema.context_fields, schema.item_fields)
        size = sum(map(len, (*kinds, schema.candidate_fields)))
        generator = torch.Generator().manual_seed(0)
        return torch.randn(size, dim, generator=generator) if dim else None

    def artifact(self, case: Case) -> Artifact:
        """The model as an artifact, exported by one test process for all."""
        if case not in self._artifacts:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            exported = self.artifacts / f"{case}.exported"
            with FileLock(exported.with_suffix(".lock")):
                if not exported.exists():
                    exported.write_text(self._export(case).artifact_id)
            self._artifacts[case] = load_artifact(self.artifacts, exported.read_text())
        return self._artifacts[case]

    def _export(self, case: Case) -> Artifact:
        return export(
            self.checkpoint(case), {}, self.recipe(case).to_dict(), self.events,
            self.batch(case), self.artifacts, REQUEST_GAP_S,
        )  # fmt: skip
