"""SSFT: a language model is tuned to tell which field a value belongs to.

Source: LLaCTR (doi 10.1145/3774904.3792387), section 3.1. Of a prompt with vector q and right field k, among fields
with vectors F_1 .. F_K:

- contrastive: -log softmax_k(cos(q, F_·) / τ), τ = 0.02. F comes from the model that is tuned, with gradient.
- generative: -log P(description of k, EOS | prompt).

Differs: smaller models; fp32 unless the processor multiplies bfloat16 matrices.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from builder.language.language_model import LanguageModel
from builder.language.prompts import Pair, write_prompts
from builder.language.stopwatch import Stopwatch
from builder.progress import Progress
from builder.recipe.language import LanguageRule
from builder.train.learning_rate import share_of_rate

TEMPERATURE = 0.02
MICRO_BATCH = 32
"""Prompts per pass: activations fit into 2 GB, and short prompts are not padded to the longest."""
MAX_NORM = 1.0
"""Largest norm of the gradient."""


class Tuner:
    """Prompts, fields and losses of one tuning.

    Args:
        model: to tune; LoRA is added to it.
        pairs: to tune on.
        descriptions: of the K fields.
        rule: the recipe's section on language.
        clock: measures the phases.
    """

    def __init__(
        self,
        model: LanguageModel,
        pairs: Sequence[Pair],
        descriptions: Sequence[str],
        rule: LanguageRule,
        clock: Stopwatch,
    ) -> None:
        self.model, self.rule, self.clock = model, rule, clock
        with clock("tokenise"):
            self.prompts = model.tokenise(write_prompts(pairs, descriptions, rule.template))
            self.fields = model.tokenise(descriptions)
            self.answers = model.tokenise(descriptions, is_start=False)
        self.labels = torch.tensor([pair.field for pair in pairs])

    def run(self, progress: Progress) -> list[float]:
        """Tune; return the loss of each step."""
        steps = self.rule.steps
        self.model.add_lora(self.rule)
        self.model.network.train()
        weights = self.model.trained()
        optimizer = torch.optim.AdamW(weights, lr=self.rule.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: share_of_rate(step, steps, final=0.0)
        )
        losses: list[float] = []
        progress(0, steps)
        for batch in self._batches():
            losses.append(self._accumulate(batch))
            with self.clock("update"):
                torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            progress(len(losses), steps, f"loss {losses[-1]:.3f}")
        return losses

    def _batches(self) -> Iterator[Int64[Tensor, "B"]]:
        """Indices of each step's pairs: random permutations of all pairs, one after another."""
        rule = self.rule
        draw = torch.Generator().manual_seed(rule.seed)
        size = len(self.prompts)
        num_epochs = -(-rule.steps * rule.batch // size)
        places = torch.cat([torch.randperm(size, generator=draw) for _ in range(num_epochs)])
        yield from torch.split(places[: rule.steps * rule.batch], rule.batch)

    def _accumulate(self, batch: Int64[Tensor, "B"]) -> float:
        """Accumulate the gradients of a batch in micro-batches; return its loss."""
        # Sorted within the batch only: sorted over all prompts, a batch would hold values of a single field.
        ordered = sorted(batch.tolist(), key=lambda place: len(self.prompts[place]))
        total = 0.0
        for start in range(0, len(ordered), MICRO_BATCH):
            chosen = ordered[start : start + MICRO_BATCH]
            with self.clock("forward"), _fast_matmul():
                loss = self._loss(chosen) * (len(chosen) / len(ordered))
            with self.clock("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _loss(self, chosen: Sequence[int]) -> Float[Tensor, ""]:
        prompts = [self.prompts[place] for place in chosen]
        labels = self.labels[torch.tensor(chosen)]
        if self.rule.loss == "contrastive":
            return contrastive(self.model.embed(prompts), self.model.embed(self.fields), labels)
        answers = [self.answers[label] for label in labels]
        queries, generative = self.model.embed_answered(prompts, answers)
        if self.rule.loss == "generative":
            return generative
        return generative + contrastive(queries, self.model.embed(self.fields), labels)


def contrastive(
    queries: Float[Tensor, "B D"], fields: Float[Tensor, "K D"], labels: Int64[Tensor, "B"]
) -> Float[Tensor, ""]:
    """K-way cross-entropy of cosines over the temperature, mean over prompts."""
    cosines = F.normalize(queries.float(), dim=-1) @ F.normalize(fields.float(), dim=-1).T
    return F.cross_entropy(cosines / TEMPERATURE, labels)


def _fast_matmul() -> contextlib.AbstractContextManager[object]:
    """Bfloat16 where the processor has matrix units for it: elsewhere it is slower than fp32."""
    if torch.cpu._is_amx_tile_supported():
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()
