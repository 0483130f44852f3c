"""What every model must do: tests over all models of the registry, in the configurations of `tests/cases.py`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from builder.checkpoint import Checkpoint
from builder.evaluate.record_quality import through_records
from builder.export.prototypes import with_prototypes
from builder.export.session import open_graph, run_graph, user_feed
from builder.train.optimiser import make_optimizer
from builder.train.train import losses
from models.base import CtrModel
from models.batch import Batch, Context, Slate, User
from models.contract.age import NUM_AGES
from models.contract.artifact import ENCODE, SCORE
from models.contract.errors import CorruptRecordError
from models.contract.record import check_ids
from models.contract.schema import PADDING
from models.contract.state_spec import RecordDtype, stored_rows
from models.registry import MODELS, build_model
from tests.builds import Builds
from tests.cases import CASES, EXPORTED, SCHEMA, Case, item_fields, random_batch

each_case = pytest.mark.parametrize("case", CASES, ids=str)
READING = [case for case in CASES if MODELS[case.model].model.reads_history]


def fresh(case: Case, **changes: object) -> CtrModel:
    return build_model(case.model, SCHEMA, item_fields(), {**case.config, **changes})


def settled(case: Case, schema=SCHEMA) -> CtrModel:
    """A model in evaluation mode, with random numbers also in weights that start at zero."""
    model = build_model(case.model, schema, item_fields(schema), case.config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def logits_of(model: CtrModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


def assert_close(got: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


@each_case
@pytest.mark.parametrize(("users", "candidates"), [(1, 1), (1, 9), (6, 1), (6, 5)])
def test_a_slate_gives_a_logit_per_candidate(case: Case, users: int, candidates: int):
    batch = random_batch(users=users, candidates=candidates)
    logits = logits_of(settled(case), batch)
    assert logits.shape == (users, candidates)
    assert logits.isfinite().all()


@each_case
def test_padding_cannot_change_a_score(case: Case):
    """With a window that is four events longer, scores are the same whatever its new weights are."""
    longer = replace(SCHEMA, history_length=SCHEMA.history_length + 4)
    short, long = settled(case), settled(case, longer)
    widened = {
        name: _widened(weight, like)
        for (name, weight), like in zip(
            short.state_dict().items(), long.state_dict().values(), strict=True
        )
    }
    long.load_state_dict(widened)
    if hasattr(short, "scale"):  # the model divides by the length of the window
        long.scale = short.scale
    batch = random_batch()
    padded, ages = (
        F.pad(ids, (4, 0), value=PADDING) for ids in (batch.user.history, batch.user.ages)
    )
    more = replace(batch, user=User(padded, ages, batch.user.fields))
    assert_close(logits_of(long, more), logits_of(short, batch))


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """`weight` in the shape of `like`, with large random numbers in front where that is longer."""
    wide = 9 * torch.randn(like.shape) if weight.shape != like.shape else weight.clone()
    wide[tuple(slice(-size, None) for size in weight.shape)] = weight
    return wide


@each_case
def test_the_padding_row_of_tables_is_zero_and_not_trained(case: Case):
    model = fresh(case)
    batch = random_batch()
    out = model.train_forward(batch.user, batch.context, batch.slate)
    torch.stack([out.logits, *out.auxiliary]).sum().backward()
    for table in (module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
        assert table.weight.grad is not None
        assert not table.weight[PADDING].any()
        assert not table.weight.grad[PADDING].any()


@each_case
def test_candidates_do_not_change_each_others_scores(case: Case):
    model, batch = settled(case), random_batch(candidates=7)
    every = logits_of(model, batch)
    for chosen in ([6, 0, 3, 1, 5, 2, 4], [2, 5], [4], [1, 1, 1]):
        some = replace(batch, slate=Slate.of(batch.slate.items[:, chosen]))
        assert_close(logits_of(model, some), every[:, chosen])


@each_case
def test_users_do_not_change_each_others_scores(case: Case):
    model, batch = settled(case), random_batch()
    every = logits_of(model, batch)
    for row in range(len(every)):
        assert_close(logits_of(model, one_user(batch, row)), every[row : row + 1])


def one_user(batch: Batch, row: int) -> Batch:
    at = slice(row, row + 1)
    return Batch.unweighted(
        User(batch.user.history[at], batch.user.ages[at], batch.user.fields[at]),
        Context(batch.context.recent[at], batch.context.fields[at]),
        Slate.of(batch.slate.items[at]),
        batch.label[at],
        batch.mask[at],
    )


@each_case
def test_a_score_depends_on_every_input(case: Case):
    model, batch = settled(case), random_batch(candidates=1)
    full = one_user(batch, len(batch.label) - 1)
    base = logits_of(model, full)
    changed = {
        "profile": replace(full, user=replace(full.user, fields=5 - full.user.fields - 1)),
        "context": replace(full, context=Context(full.context.recent, 6 - full.context.fields)),
        "candidate": replace(full, slate=Slate.of(full.slate.items % 20 + 2)),
    }
    if model.reads_history:
        recent = Context(full.context.recent % 20 + 2, full.context.fields)
        changed["recent"] = replace(full, context=recent)
    if model.reads_history and len(model.state_spec()) > 1:  # the state has more than the profile
        other = replace(full.user, history=full.user.history % 20 + 2)
        changed["history"] = replace(full, user=other)
    unmoved = [name for name, other in changed.items() if (logits_of(model, other) == base).all()]
    assert unmoved == []


@each_case
def test_the_state_matches_its_spec(case: Case):
    model, batch = settled(case), random_batch()
    state = model.encode(batch.user)
    assert list(state) == [tensor.name for tensor in model.state_spec()]
    for tensor in model.state_spec():
        assert state[tensor.name].shape == (len(batch.label), *tensor.shape)
        assert state[tensor.name].dtype == getattr(
            torch, {"float": "float32"}.get(tensor.kind, "int32")
        )
        assert state[tensor.name].isfinite().all()


@each_case
def test_the_spec_says_what_the_ids_of_a_state_are(case: Case):
    model, batch = settled(case), random_batch()
    with torch.no_grad():
        state = {name: values.numpy() for name, values in model.encode(batch.user).items()}
    numbers = [tensor for tensor in model.state_spec() if tensor.kind == "int32"]
    assert all(tensor.ids != "any" for tensor in numbers)
    check_ids(state, model.state_spec(), SCHEMA.num_items)
    for tensor in numbers:
        for wrong in (-1, SCHEMA.num_items * NUM_AGES):
            values = np.full_like(state[tensor.name], wrong)
            with pytest.raises(CorruptRecordError, match=f"state '{tensor.name}': {tensor.ids}"):
                check_ids({**state, tensor.name: values}, model.state_spec(), SCHEMA.num_items)


@each_case
def test_a_record_stores_the_rows_that_events_fill(case: Case):
    """At most as many as the user has events: those of a tensor said to be filled from the other end would be all."""
    model, batch = settled(case), random_batch()
    with torch.no_grad():
        state = model.encode(batch.user)
    for user, history in enumerate(batch.user.history):
        own = {name: values[user].numpy() for name, values in state.items()}
        for tensor, rows in zip(
            model.state_spec(), stored_rows(own, model.state_spec()), strict=True
        ):
            if tensor.has_row_count:
                assert rows <= int((history != PADDING).sum())


def through_bytes(model: CtrModel, batch: Batch, dtype: RecordDtype) -> Tensor:
    """Logits from states that went through the bytes of a record."""
    with torch.no_grad():
        state = through_records(model.encode(batch.user), model.state_spec(), dtype)
        return model.score(state, batch.context, batch.slate)


@each_case
@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-5), ("fp16", 2e-3), ("int8", 3e-2)])
def test_a_state_from_a_record_scores_within_the_bound(
    builds: Builds, case: Case, dtype: RecordDtype, bound: float
):
    """Bounds of probabilities. fp16 keeps 11 bits of each number of a state, int8 seven bits of a row's largest."""
    model, batch = builds.checkpoint(case).build(), builds.batch(case, slates=32)
    expected = logits_of(model, batch).sigmoid()
    got = through_bytes(model, batch, dtype).sigmoid()
    assert_close(got, expected, atol=bound)
    assert expected.std() > 10 * 1e-5, "equal scores would prove nothing"


@each_case
def test_every_parameter_gets_a_gradient(case: Case):
    model, batch = fresh(case), random_batch(users=8)
    out = model.train_forward(batch.user, batch.context, batch.slate)
    fitted = (out.logits, *out.auxiliary)
    loss = torch.stack(
        [F.binary_cross_entropy_with_logits(logits, batch.label) for logits in fitted]
    ).sum()
    (loss if out.penalty is None else loss + out.penalty).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@each_case
def test_every_parameter_is_optimised_once(case: Case):
    model = fresh(case)
    optimised = [p for group in model.parameter_groups(0.1) for p in group["params"]]
    assert sorted(map(id, optimised)) == sorted(map(id, model.parameters()))


@each_case
def test_the_loss_falls_in_a_few_steps(builds: Builds, case: Case):
    """On the batch that is fitted: what can be learned from the log differs between models."""
    recipe, batch = builds.recipe(case), builds.batch(case, 48)
    fields = torch.from_numpy(builds.events.item_fields)
    model = build_model(case.model, builds.events.schema, fields, case.config).train()
    optimizer = make_optimizer(model, recipe.train)
    values = []
    for _ in range(12):
        loss, total = losses(model, batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.01


@pytest.mark.parametrize("case", READING, ids=str)
def test_training_lowers_the_loss_on_other_targets(builds: Builds, case: Case):
    """The log's labels depend on histories only, so models of fields cannot learn them."""
    recipe, checkpoint, batch = builds.recipe(case), builds.checkpoint(case), builds.batch(case, 48)
    fields = torch.from_numpy(builds.events.item_fields)
    start = build_model(case.model, checkpoint.schema, fields, case.config, recipe.train.seed)
    before, after = (
        F.binary_cross_entropy_with_logits(
            model.train().train_forward(batch.user, batch.context, batch.slate).logits[batch.mask],
            batch.label[batch.mask],
        ).item()
        for model in (start, checkpoint.build())
    )
    assert after < before - 0.01


@each_case
def test_trains_what_it_serves_is_true_where_both_graphs_agree(builds: Builds, case: Case):
    model, batch = builds.checkpoint(case).build(), builds.batch(case)
    with torch.no_grad():
        trained = model.train_forward(batch.user, batch.context, batch.slate).logits
    is_same = torch.allclose(trained, logits_of(model, batch), atol=1e-5)
    assert is_same == model.trains_what_it_serves


@each_case
def test_a_saved_checkpoint_scores_the_same(builds: Builds, case: Case, tmp_path):
    checkpoint, batch = builds.checkpoint(case), builds.batch(case)
    checkpoint.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded.schema == checkpoint.schema
    assert torch.equal(logits_of(loaded.build(), batch), logits_of(checkpoint.build(), batch))


@pytest.mark.parametrize("case", [case for case in CASES if case.has("dropout")], ids=str)
def test_only_training_uses_dropout(case: Case):
    model, batch = fresh(case, dropout=0.5), random_batch()
    assert not torch.equal(logits_of(model, batch), logits_of(model, batch))
    model.eval()
    assert torch.equal(logits_of(model, batch), logits_of(model, batch))


@each_case
def test_the_same_seed_starts_the_same_model(case: Case):
    first, again = fresh(case).state_dict(), fresh(case).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = build_model(case.model, SCHEMA, item_fields(), case.config, seed=1).state_dict()
    table = "frame.items.tables.0.weight"
    assert not torch.equal(first[table], other[table])


@pytest.mark.parametrize("case", EXPORTED, ids=str)
@pytest.mark.parametrize(("users", "candidates"), [(1, 1), (7, 3), (2, 40)])
def test_the_graphs_score_as_torch_does(builds: Builds, case: Case, users: int, candidates: int):
    """The numbers of users and candidates differ from those of the trace."""
    artifact = builds.artifact(case)
    prototypes = artifact.vocabulary.prototypes
    checkpoint = with_prototypes(builds.checkpoint(case), builds.events, prototypes)
    model, schema = checkpoint.build(), artifact.manifest.schema
    batch = random_batch(schema, users, candidates)
    assert batch.slate.items.shape != builds.batch(case).slate.items.shape
    encode = open_graph(artifact.graph(ENCODE))
    score = open_graph(artifact.graph(SCORE))
    state = run_graph(encode, user_feed(batch.user))
    names = [tensor.name for tensor in artifact.manifest.state_spec]
    with torch.no_grad():
        expected = model.encode(batch.user)
    for name, tensor in zip(names, state, strict=True):
        assert_close(torch.from_numpy(tensor), expected[name], atol=1e-4)
    feed = dict(zip(names, state, strict=True)) | {
        "recent": batch.context.recent.numpy(),
        "context_fields": batch.context.fields.numpy(),
        "items": batch.slate.items.numpy(),
    }
    logits = torch.from_numpy(run_graph(score, feed)[0])
    assert_close(logits, logits_of(model, batch), atol=1e-4)
