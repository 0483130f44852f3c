"""One tuning from start to end: load, tune, measure, encode."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from builder.language.accuracy import measure_accuracy
from builder.language.language_model import load_language_model
from builder.language.prompts import sample_pairs
from builder.language.stopwatch import Stopwatch
from builder.language.texts import FieldTexts
from builder.language.tuning import Tuner
from builder.language.weights import WEIGHTS
from builder.progress import Progress
from builder.recipe.language import LanguageRule


def fine_tune(
    texts: FieldTexts, rule: LanguageRule, progress: Progress
) -> tuple[Float[Tensor, "K D"], dict[str, Any]]:
    """Vectors of the descriptions, and a report in JSON's types.

    The same seed gives the same vectors on the same kind of processor.

    Raises:
        WeightsError: a package of the language model is missing, or differs from the published one.
    """
    clock, cpu_start = Stopwatch(), time.process_time()
    sample = sample_pairs(texts, rule)
    with _threads(rule.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rule.seed)
        with clock("load"):
            model = load_language_model(rule.model)
        with clock("measure"):
            before = measure_accuracy(model, texts, sample.held_out, rule.template)
        losses, after = [], before
        if rule.vectors != "raw":
            losses = Tuner(model, sample.train, texts.descriptions, rule, clock).run(progress)
            with clock("measure"):
                after = measure_accuracy(model, texts, sample.held_out, rule.template)
        with clock("encode"):
            vectors = model.embed_all(model.tokenise(texts.descriptions))
    report = {
        "model": rule.model,
        "weights_sha256": WEIGHTS[rule.model].sha256(),
        "fields": dict(zip(texts.names, texts.descriptions, strict=True)),
        "num_train": len(sample.train),
        "num_held_out": len(sample.held_out),
        "steps": len(losses),
        "losses": losses,
        "accuracy": {
            "chance": 1 / len(texts.names),
            "limit": sample.limit,
            "before": asdict(before),
            "after": asdict(after),
        },
        "seconds": clock.seconds,
        # Processor time of all threads: other programs on the machine do not change it.
        "cpu_s": time.process_time() - cpu_start,
    }
    return vectors, report


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Run with `threads` threads (0: one per core); restore the former number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
