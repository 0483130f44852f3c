"""SIM against its equations as loops (`tests/reference/two_stage.py`): its search against sorting."""

from dataclasses import replace
from math import inf

import pytest
import torch
from torch import Tensor

from models.batch import Batch, Context, Slate, User
from models.blocks.top_k import RESOLUTION
from models.contract.age import NUM_AGES
from models.contract.schema import FeatureSchema, Field
from models.registry import build_model
from models.sequence.sim import SIM, SoftSearch
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.two_stage import best, multi_head, search_score, search_sum

L = SCHEMA.history_length


def sim(search: str, **config: object) -> SIM:
    model = build_model("sim", SCHEMA, item_fields(), {**SIZES, "k": 3, "search": search, **config})
    assert isinstance(model, SIM)
    torch.nn.init.normal_(model.attention.w_k)
    if model.search is not None:
        torch.nn.init.normal_(model.search.w_b)
    return model.double().eval()


def search_of(model: SIM) -> SoftSearch:
    assert model.search is not None
    return model.search


def scores(model: SIM, row: list[int], item: int) -> list[float]:
    """Scores by which the search sorts one user's events for one candidate; `best` takes the latest of equal ones."""
    if model.column is not None:
        category = item_fields()[:, model.column].tolist()
        return [at if category[e] == category[item] else -inf for at, e in enumerate(row)]
    search = search_of(model)
    target, events = (model.frame.items(torch.tensor([ids]))[0] for ids in ([item], row))
    w_a, w_b = search.w_a.tolist(), search.w_b.tolist()
    relevance = [search_score(w_a, w_b, target[0].tolist(), e) for e in events.tolist()]
    return [r + RESOLUTION / len(row) * at for at, r in enumerate(relevance)]


def by_loops(model: SIM, batch: Batch) -> Tensor:
    """The long-history vector of each candidate, [B, C, H·D]."""
    target, events = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    history = torch.cat([events, model.ages(batch.user.ages)], -1)
    w_q, w_k = model.attention.w_q.tolist(), model.attention.w_k.tolist()
    out = []
    for b, row in enumerate(batch.user.history.tolist()):
        real = [event > 0 for event in row]
        for c, item in enumerate(batch.slate.items[b].tolist()):
            best_events = best(scores(model, row, item), real, model.config.k)
            z = history[b, best_events].tolist()
            out.append(multi_head(w_q, w_k, model.attention.heads, target[b, c].tolist(), z))
    return torch.tensor(out, dtype=torch.float64).view(*batch.slate.items.shape, -1)


def forward(model: SIM, batch: Batch) -> Tensor:
    logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


@pytest.mark.parametrize("k", [1, 3, L, L + 5])
@pytest.mark.parametrize("search", ["hard", "soft"])
def test_it_attends_to_the_events_that_sorting_finds(search: str, k: int):
    """One user has no history, and some candidates have no event of their category."""
    model, batch = sim(search, k=k), random_batch(users=8)
    long = by_loops(model, batch)
    profile, target = model.frame.profile(batch.user.fields), model.frame.items(batch.slate.items)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(forward(model, batch), expected)
    without = (long == 0).all(-1)
    assert without[0].all()
    assert without[1:].any() == (search == "hard")


def test_hard_search_takes_the_latest_events_of_the_category():
    model, batch = sim("hard", k=2), random_batch()
    same = item_fields()[:, 1][batch.slate.items[-1, 0]] == item_fields()[:, 1]
    same[0] = False
    own, other = int(same.nonzero()[0]), int((~same).nonzero()[-1])
    for changed, matters in [(0, False), (L - 6, False), (L - 5, True), (L - 1, True)]:
        history = torch.full((1, L), other)
        history[0, [0, L - 6, L - 5, L - 1]] = own
        ages = torch.ones_like(history)
        older = ages.clone()
        older[0, changed] = 40
        fields, slate = batch.user.fields[-1:], Slate.of(batch.slate.items[-1:, :1])
        context = Context(batch.context.recent[-1:], batch.context.fields[-1:])
        logits = [model(User(history, age, fields), context, slate) for age in (ages, older)]
        assert (logits[0] == logits[1]).all() != matters


def test_the_category_may_be_another_field():
    fields = {
        column: sim("hard", category=name).column for column, name in [(1, None), (2, "popularity")]
    }
    assert fields == {1: 1, 2: 2}
    batch = random_batch()
    assert not torch.equal(
        forward(sim("hard"), batch), forward(sim("hard", category="popularity"), batch)
    )


def test_soft_search_takes_the_latest_events_of_one_item():
    model, batch = sim("soft", k=3), random_batch(users=2)
    history = torch.full_like(batch.user.history, 7)
    ages = torch.arange(L, 0, -1).expand_as(history)
    user = User(history, ages, batch.user.fields)
    recent = User(history, torch.where(ages > 3, NUM_AGES - 1, ages), batch.user.fields)
    other = User(history, torch.where(ages > 2, NUM_AGES - 1, ages), batch.user.fields)
    expected = forward(model, replace(batch, user=user))
    torch.testing.assert_close(forward(model, replace(batch, user=recent)), expected)
    assert not torch.allclose(forward(model, replace(batch, user=other)), expected)


def test_the_search_unit_equals_the_equation():
    model, batch = sim("soft"), random_batch()
    search = search_of(model)
    out = model.train_forward(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(out.logits, forward(model, batch))
    target, events = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    w_a, w_b = search.w_a.tolist(), search.w_b.tolist()
    relevance, sums = (
        torch.tensor(
            [
                [of(w_a, w_b, one.tolist(), history.tolist()) for one in slate]
                for slate, history in zip(target, events, strict=True)
            ],
            dtype=torch.float64,
        )
        for of in (lambda a, b, t, es: [search_score(a, b, t, e) for e in es], search_sum)
    )
    torch.testing.assert_close(search.relevance(target, events), relevance)
    expected = search.head(torch.cat([sums / L**0.5, target], -1)).squeeze(-1)
    torch.testing.assert_close(out.auxiliary[0], expected)


def test_only_soft_search_has_a_search_unit():
    """Only the search unit trains the search, since the choice of events has no gradient."""
    batch = random_batch()
    hard = sim("hard")
    assert hard.train_forward(batch.user, batch.context, batch.slate).auxiliary == ()
    assert not [name for name, _ in hard.named_parameters() if name.startswith("search")]
    soft = sim("soft")
    soft.train_forward(batch.user, batch.context, batch.slate).logits.sum().backward()
    assert [p.grad for p in search_of(soft).parameters()] == [None] * 6


@pytest.mark.parametrize("search", ["hard", "soft"])
def test_empty_histories_have_finite_gradients(search: str):
    model, batch = sim(search), random_batch()
    nothing = torch.zeros_like(batch.user.history)
    user = User(nothing, nothing, batch.user.fields)
    out = model.train().train_forward(user, batch.context, batch.slate)
    torch.stack([out.logits, *out.auxiliary]).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.frame.head.candidate.weight.grad is not None


def test_at_the_start_a_candidate_finds_events_of_its_item():
    model = build_model("sim", SCHEMA, item_fields(), {**SIZES, "hidden": 32, "search": "soft"})
    assert isinstance(model, SIM)
    items = model.frame.items(torch.arange(2, 30)[None])
    relevance = search_of(model).relevance(items, items)[0]
    better = (relevance > relevance.diagonal()[:, None]).sum(-1)
    assert (better < 3).float().mean() > 0.9


def test_the_state_is_the_history():
    state = sim("soft").encode(random_batch().user)
    assert torch.equal(state["rows"], random_batch().user.history.int())
    assert torch.equal(state["event_ages"], random_batch().user.ages.int())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"k": 0}, "k: got 0, expected at least 1"),
        ({"category": "category"}, "category: got 'category', expected none with search = 'soft'"),
        (
            {"search": "hard", "category": "brand"},
            "category: got 'brand', expected an item field among",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(config: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        build_model("sim", SCHEMA, item_fields(), {**SIZES, **config})


def test_hard_search_needs_a_field_to_compare():
    fields = (Field("item", 30), Field("popularity", 5))
    schema: FeatureSchema = replace(SCHEMA, item_fields=fields)
    with pytest.raises(
        ValueError, match="search: got 'hard', expected 'soft': there is no item field"
    ):
        build_model("sim", schema, item_fields(schema), {**SIZES, "search": "hard"})
