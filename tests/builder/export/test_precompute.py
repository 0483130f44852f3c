"""Precompute: what a record holds, and that memory does not grow with the users."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builder.dataset.batches import find_slates
from builder.dataset.parts import batch_source
from builder.errors import StepError
from builder.export.onnx import export
from builder.export.precompute import (
    Written,
    base_histories,
    precompute,
    read_histories,
    read_records,
    write_histories,
    write_records,
)
from builder.export.session import open_graph, run_graph
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.recipe.recipe import Recipe, load_recipe
from builder.train.train import train
from models.batch import User
from models.contract.age import age_buckets
from models.contract.artifact import ENCODE, Artifact
from models.contract.errors import CorruptRecordError
from models.live.ages import Ages
from models.live.fold import ReEncode, Task
from models.live.history import base_length, decode_history, history_bytes
from models.live.window import window_of
from models.registry import build_model

TINY = Path("builder/recipes/tiny.toml")


def tiny(users: int) -> Recipe:
    recipe = load_recipe(TINY)
    sized = replace(recipe.data.synthetic, users=users)
    budget = replace(recipe.train, steps=1, validate_every=1, slates_per_step=4)
    return replace(recipe, data=replace(recipe.data, synthetic=sized), train=budget)


@pytest.fixture(scope="module")
def events() -> Events:
    return ingest(tiny(40))


@pytest.fixture(scope="module")
def artifact(events: Events, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    recipe = tiny(40)
    slates = find_slates(events, "test", min_events=0, max_events=8)
    source = batch_source(events, recipe, "test")
    sample, _ = source.batch(slates, np.arange(4), np.random.default_rng(0))
    root = tmp_path_factory.mktemp("artifacts")
    return export(train(events, recipe), {}, recipe.to_dict(), events, sample, root)


def test_a_record_is_the_encoding_of_the_latest_positives(
    events: Events, artifact: Artifact
) -> None:
    user = 7
    own = slice(events.offsets[user], events.offsets[user + 1])
    positives = events.item[own][events.label[own] == 1].astype(np.int64)
    manifest = artifact.manifest
    length = manifest.schema.history_length
    history = np.zeros((1, length), np.int64)
    history[0, length - min(length, len(positives)) :] = positives[-length:]
    weights = artifact_weights(artifact)
    model = build_model(
        manifest.model, manifest.schema, weights["frame.items.item_fields"], manifest.config
    )
    model.load_state_dict(weights)
    mine = np.arange(*events.offsets[user : user + 2])
    times = events.ts_s[mine[events.label[mine] == 1]][-length:]
    ages = np.zeros((1, length), np.int64)
    ages[0, length - len(times) :] = age_buckets(events.ts_s.max() + 1 - times)
    fields = torch.from_numpy(events.user_fields[[user]].astype(np.int64))
    with torch.inference_mode():
        expected = model.eval().encode(
            User(torch.from_numpy(history), torch.from_numpy(ages), fields)
        )

    record = list(precompute(artifact, events, threads=1))[user]

    assert record.user_id == events.user_ids[user]
    assert record.as_of_s == events.ts_s.max() + 1
    recent = manifest.schema.recent_length
    assert record.recent.tolist() == history[0, -recent:].tolist()
    for name, tensor in expected.items():
        np.testing.assert_allclose(record.state[name], tensor[0].numpy(), atol=1e-5)


def artifact_weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(artifact.file("weights.safetensors"))


def test_records_survive_their_file(events: Events, artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "records.bin"

    written = write_records(precompute(artifact, events, 1), artifact, "fp32", path)

    records = list(read_records(path))
    assert [user for user, _ in records] == events.user_ids
    sizes = [len(raw) for _, raw in records]
    assert written == Written(events.num_users, sum(sizes), max(sizes))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CorruptRecordError, match="truncated"):
        list(read_records(path))


def test_a_log_of_another_schema_is_refused(events: Events, artifact: Artifact) -> None:
    other = replace(events, schema=replace(events.schema, history_length=63))

    with pytest.raises(StepError, match="schema"):
        next(precompute(artifact, other, threads=1))


def test_memory_is_flat_in_the_number_of_users(
    events: Events, artifact: Artifact, tmp_path: Path
) -> None:
    def peak(copies: int) -> int:
        """Peak of Python's and numpy's memory while the users are encoded `copies` times over."""
        folder = tmp_path / str(copies)
        sizes = np.tile(np.diff(events.offsets), copies)
        many = replace(
            events,
            user_ids=[f"u{n}" for n in range(len(sizes))],
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            item=np.tile(events.item, copies),
            ts_s=np.tile(events.ts_s, copies),
            label=np.tile(events.label, copies),
            context=np.tile(events.context, (copies, 1)),
            user_fields=np.tile(events.user_fields, (copies, 1)),
            oracle=None,
        )
        many.save(folder)
        mapped = Events.load(folder)
        tracemalloc.start()
        write_records(precompute(artifact, mapped, 1), artifact, "fp32", folder / "records.bin")
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    # 560 users are three batches, 2,240 are nine: only two of them may be in memory at once.
    assert peak(56) < 1.2 * peak(14)


def test_a_base_history_holds_the_events_that_its_record_was_made_of(artifact, events, tmp_path):
    """Encoded again from the base history, every user's state is the one of the record."""
    path, schema = tmp_path / "histories.bin", artifact.manifest.schema
    total = write_histories(base_histories(artifact, events), path)
    session = open_graph(artifact.graph(ENCODE))
    folder = ReEncode(
        schema,
        artifact.manifest.state_spec,
        lambda feed: run_graph(session, dict(feed)),
        Ages(3600),
    )

    read = list(read_histories(path))
    bases = [decode_history(raw, artifact.artifact_id, user_id) for user_id, raw in read]
    length = base_length(schema)
    tasks = [
        Task(
            base.user_id,
            window_of(base, [], artifact.vocabulary.item_rows, 0, length),
            base.user_fields.astype(np.int64),
            0,
        )
        for base in bases
    ]

    assert total == sum(
        history_bytes(len(base.user_id.encode()), len(base.user_fields), len(base.rows))
        for base in bases
    )
    expected = list(precompute(artifact, events, 1))
    for got, record in zip(folder.fold(tasks), expected, strict=True):
        assert (got.user_id, got.as_of_s) == (record.user_id, record.as_of_s)
        np.testing.assert_array_equal(got.recent, record.recent)
        for name, values in record.state.items():
            np.testing.assert_allclose(got.state[name], values, rtol=1e-6, atol=1e-6)


def test_a_damaged_file_of_histories_is_refused(artifact, events, tmp_path):
    path = tmp_path / "histories.bin"
    write_histories(base_histories(artifact, events), path)
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(CorruptRecordError):
        list(read_histories(path))
