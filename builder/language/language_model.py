"""A language model as one function: texts -> vectors, with LoRA on queries and values.

Differs from LLaCTR's released code: the field's texts begin with BOS in tuning as in encoding. Without it a text of one
token gets the state that every first token gets ("Age" and "Title" are then the same vector).
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Bool, Float
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from builder.language.weights import SMOLLM2_FILE, WEIGHTS
from builder.recipe.language import Architecture, LanguageRule

TARGETS: dict[Architecture, list[str]] = {
    "smollm2": ["q_proj", "v_proj"],
    "minilm": ["query", "value"],
}
EMBED_AT_ONCE = 64


class LanguageModel:
    """An encoder (mean of all states), or a decoder (state of the last token).

    Args:
        network: transformer without a head.
        tokenizer: its own.
        is_decoder: which of the two.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, *, is_decoder: bool) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.is_decoder = is_decoder

    def tokenise(self, texts: Sequence[str], *, is_start: bool = True) -> list[list[int]]:
        """Token ids.

        Args:
            texts: any number.
            is_start: each text starts a sequence: BOS for a decoder, its own marks for an encoder.
        """
        if not self.is_decoder:
            limit = self.tokenizer.model_max_length
            cut: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=limit)[
                "input_ids"
            ]
            return cut
        start = [self.tokenizer.bos_token_id] if is_start else []
        token_ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [start + ids for ids in token_ids]

    def states(
        self, ids: Sequence[list[int]]
    ) -> tuple[Float[Tensor, "N L D"], Bool[Tensor, "N L"]]:
        """States after the last layer, and which of them are real; padding comes last."""
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        is_real = torch.tensor([[place < len(row) for place in range(longest)] for row in ids])
        # A cache of keys and values serves generation only.
        options = {"use_cache": False} if self.is_decoder else {}
        out = self.network(input_ids=padded, attention_mask=is_real.long(), **options)
        return out.last_hidden_state.float(), is_real

    def embed(self, ids: Sequence[list[int]]) -> Float[Tensor, "N D"]:
        """A vector for each sequence."""
        states, is_real = self.states(ids)
        if self.is_decoder:
            last: Tensor = states[torch.arange(len(ids)), is_real.sum(1) - 1]
            return last
        weight = is_real[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)

    @torch.no_grad()
    def embed_all(self, ids: Sequence[list[int]]) -> Float[Tensor, "N D"]:
        """As `embed`, without gradient, for any number of sequences; sequences of similar length share a batch."""
        self.network.eval()
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        starts = range(0, len(order), EMBED_AT_ONCE)
        chunks = [order[start : start + EMBED_AT_ONCE] for start in starts]
        vectors = torch.cat([self.embed([ids[place] for place in chunk]) for chunk in chunks])
        return vectors[torch.tensor(order).argsort()]

    def embed_answered(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, ""]]:
        """Vectors of the prompts, and -log P of their answers and EOS: summed over tokens, mean over prompts.

        One pass serves both: a prompt does not see its answer.
        """
        ended = [[*answer, self.tokenizer.eos_token_id] for answer in answers]
        both = [prompt + answer for prompt, answer in zip(prompts, ended, strict=True)]
        states, _ = self.states(both)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts])
        rows = torch.cat([torch.full((len(answer),), row) for row, answer in enumerate(ended)])
        places = torch.cat(
            [end + torch.arange(len(answer)) for end, answer in zip(ends, ended, strict=True)]
        )
        # The head has 49,152 tokens: it is applied only at the positions of answers.
        logits = F.linear(states[rows, places], self._token_embeddings())
        targets = torch.tensor([token for answer in ended for token in answer])
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / len(prompts)
        return states[torch.arange(len(prompts)), ends], loss

    def _token_embeddings(self) -> Float[Tensor, "V D"]:
        """Of a decoder whose head is tied to them."""
        weight: Tensor = self.network.get_input_embeddings().weight  # type: ignore[operator]
        return weight

    def add_lora(self, rule: LanguageRule) -> None:
        """Freeze the network and add LoRA matrices, which change nothing before training."""
        config = LoraConfig(
            r=rule.rank,
            lora_alpha=rule.alpha,
            lora_dropout=rule.dropout,
            target_modules=TARGETS[rule.model],
            bias="none",
        )
        with warnings.catch_warnings():
            # peft reads an attribute that transformers has deprecated.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            self.network = get_peft_model(self.network, config)

    def trained(self) -> list[nn.Parameter]:
        """Parameters of LoRA."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]


def load_language_model(architecture: Architecture) -> LanguageModel:
    """A language model from the weights in its package; nothing is downloaded.

    Raises:
        WeightsError: the weights are missing, or differ from the published ones.
    """
    folder = str(WEIGHTS[architecture].find())
    is_decoder = architecture == "smollm2"
    file = {"gguf_file": SMOLLM2_FILE} if is_decoder else {}
    with _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, **file
        )
        network = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, **file
        )
    for module in network.modules():
        if isinstance(module, nn.Dropout):  # an encoder's own; LoRA has one of ours
            module.p = 0.0
    return LanguageModel(network, tokenizer, is_decoder=is_decoder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's advice and its progress bars, one of which has no switch."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers.logging.set_verbosity(before)
