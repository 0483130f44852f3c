"""Self-attention among the events of a history: all earlier ones, or the near ones and every r-th (LightSUAN).

Source: SUAN, 2508.15326; the form of the sparse pattern is ours (the paper's text was not at hand).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from models.age import NUM_AGES, bucket_days
from models.schema import PADDING

NUM_GAPS = 129
"""Buckets of time gaps, ⌊ln(max(seconds, 1)) / 0.301⌋ up to 128, as released."""
DAY_S = 86_400
QKV = tuple[Float[Tensor, "B H N Dh"], Float[Tensor, "B H N Dh"], Float[Tensor, "B H N Dh"]]
"""Queries, keys and values of the same events."""


def gap_buckets() -> Int[Tensor, "A A"]:
    """Bucket of the time between two events, by their ages' buckets: known as well as ages are, to half an octave."""
    seconds = torch.from_numpy(bucket_days()).double() * DAY_S
    gap = (seconds[:, None] - seconds[None]).abs().clamp(min=1)
    return (gap.log() / 0.301).floor().clamp(max=NUM_GAPS - 1).long()


class RelativeBias(nn.Module):
    """R_ij = p[i − j] + s[bucket(|t_i − t_j|)], one for all heads and blocks.

    Args:
        length: number of places, so distances are below it.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.distance = nn.Parameter(0.02 * torch.randn(length))
        self.gap = nn.Parameter(0.02 * torch.randn(NUM_GAPS))
        self.register_buffer("gap_of_ages", gap_buckets().flatten(), persistent=False)

    def forward(
        self, distance: Int[Tensor, "..."], age_i: Int[Tensor, "..."], age_j: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Of pairs of events; the three broadcast.

        Args:
            distance: i − j; a negative one is masked by the caller and may read anything.
            age_i: bucket of the querying event's age.
            age_j: bucket of the other's.
        """
        of_gap = self.gap[self.get_buffer("gap_of_ages")]
        last = len(self.distance) - 1  # distance 0 comes last: a longer window has more in front
        return self.distance[last - distance.clamp(min=0)] + of_gap[age_i * NUM_AGES + age_j]


def dense_attention(
    qkv: QKV,
    ages: Int[Tensor, "B N"],
    bias: RelativeBias,
) -> Float[Tensor, "B H N Dh"]:
    """Each event attends to itself and all before it; padding (age `PADDING`) is never read. O(N²·D)."""
    place = torch.arange(ages.shape[1], device=ages.device)
    distance = place[:, None] - place  # (N, N)
    logit = bias(distance, ages[:, :, None], ages[:, None])  # (B, N, N)
    is_seen = (distance >= 0) & (ages != PADDING)[:, None]
    mask = logit.masked_fill(~is_seen, torch.finfo(logit.dtype).min)
    query, key, value = qkv
    if (
        torch.compiler.is_exporting()
    ):  # the exporter lays out the fused one's result otherwise than torch says
        logit = query @ key.mT * query.shape[-1] ** -0.5 + mask[:, None]
        attended: Tensor = logit.softmax(-1) @ value
        return attended
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])


def sparse_attention(
    qkv: QKV,
    ages: Int[Tensor, "B N"],
    bias: RelativeBias,
    *,
    window: int,
    stride: int,
) -> Float[Tensor, "B H N Dh"]:
    """Each event attends to those of a distance below `window`, or a multiple of `stride`, in one softmax.

    O(N·(window + N/stride)·D): two small dense attentions, one among neighbours in blocks of `window` and one among
    the events of equal place modulo `stride`, whose logits are joined before the softmax.
    """
    query, key, value = qkv
    place = torch.arange(ages.shape[1], device=ages.device)[None, None, :, None]
    age = ages[:, None, :, None]
    logits, values = [], []
    for layout in (_Near(window), _Strided(stride)):
        distance = layout.queries(place) - layout.keys(place).mT  # (1, 1, G, Q, W)
        other = layout.keys(age).mT
        logit = layout.queries(query) @ layout.keys(key).mT * query.shape[-1] ** -0.5
        logit = logit + bias(distance, layout.queries(age), other)
        is_seen = layout.sees(distance, window) & (other != PADDING)
        logit = logit.masked_fill(~is_seen, torch.finfo(logit.dtype).min)
        logits.append(layout.back(logit, ages.shape[1]))
        values.append((layout, layout.keys(value)))
    share = torch.cat(logits, -1).softmax(-1)
    shares = torch.split(share, [part.shape[-1] for part in logits], -1)
    parts = [
        layout.back(layout.queries(share) @ seen, ages.shape[1])
        for share, (layout, seen) in zip(shares, values, strict=True)
    ]
    return parts[0] + parts[1]


def seen_from(length: int, window: int, stride: int) -> Int[Tensor, "K"]:
    """Which of `length` events the one after the last attends to. A window of 0: all."""
    distance = length - torch.arange(length)
    is_seen = (distance < window) | (distance % stride == 0) if window else distance > 0
    return is_seen.nonzero().squeeze(1)


class _Near:
    """Blocks of `size` events; each attends to its own block and the one before."""

    def __init__(self, size: int) -> None:
        self.size = size

    def queries(self, x: Shaped[Tensor, "B H N D"]) -> Shaped[Tensor, "B H G Q D"]:
        return _fold(x, self.size)

    def keys(self, x: Shaped[Tensor, "B H N D"]) -> Shaped[Tensor, "B H G W D"]:
        own = self.queries(x)
        before = torch.cat([torch.zeros_like(own[:, :, :1]), own[:, :, :-1]], 2)
        return torch.cat([before, own], 3)

    def back(self, x: Shaped[Tensor, "B H G Q W"], length: int) -> Shaped[Tensor, "B H N W"]:
        return x.flatten(2, 3)[:, :, -length:]

    def sees(self, distance: Int[Tensor, "..."], window: int) -> Bool[Tensor, "..."]:
        return (distance >= 0) & (distance < window)


class _Strided:
    """The events of equal place modulo `size` attend to each other."""

    def __init__(self, size: int) -> None:
        self.size = size

    def queries(self, x: Shaped[Tensor, "B H N D"]) -> Shaped[Tensor, "B H G Q D"]:
        return _fold(x, self.size).transpose(2, 3)

    keys = queries

    def back(self, x: Shaped[Tensor, "B H G Q W"], length: int) -> Shaped[Tensor, "B H N W"]:
        return x.transpose(2, 3).flatten(2, 3)[:, :, -length:]

    def sees(self, distance: Int[Tensor, "..."], window: int) -> Bool[Tensor, "..."]:
        return distance >= window  # nearer ones are seen as neighbours already


def _fold(x: Shaped[Tensor, "B H N D"], size: int) -> Shaped[Tensor, "B H G Q D"]:
    """Blocks of `size` events; zeros, that is padding, before the oldest fill up the first one."""
    padded = F.pad(x, (0, 0, -x.shape[2] % size, 0))
    B, H, N, D = padded.shape
    return padded.view(B, H, N // size, size, D)
