"""Self-attention among the events of a history: all earlier ones, or the near ones and every r-th (LightSUAN).

Source: SUAN, 2508.15326; the form of the sparse pattern is ours (the paper's text was not at hand).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from models.contract.age import NUM_AGES, bucket_days
from models.contract.schema import PADDING

NUM_GAPS = 129
"""Buckets of time gaps, ⌊ln(max(seconds, 1)) / 0.301⌋ up to 128, as released."""
DAY_S = 86_400
BLOCK = 128
"""Queries at once in dense attention: 1.6 times faster than all at L = 512, and no slower at 128."""
NEVER = -1e9
"""Added to a logit that is to have no share; finite, so that an event which sees nothing has numbers, not NaN."""
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
            distance: i − j, 0 or more.
            age_i: bucket of the querying event's age.
            age_j: bucket of the other's; `PADDING` is never to be read.
        """
        return self.of_distance(distance) + self._of_ages()[age_i, age_j]

    def of_distance(self, distance: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """p; what comes later, at a distance below 0, is never to be read."""
        last = len(self.distance) - 1  # distance 0 comes last: a longer window has more in front
        p = self.distance[last - distance.clamp(min=0)]
        return p.masked_fill(distance < 0, NEVER)

    def with_gaps(
        self,
        query: Float[Tensor, "B H N Dh"],
        key: Float[Tensor, "B H N Dh"],
        ages: Int[Tensor, "B N"],
    ) -> tuple[Float[Tensor, "B H N E"], Float[Tensor, "B H N E"]]:
        """Queries and keys whose products are the logits q·k/√d + s: s is a product of an age's row and a one-hot age.

        So no tensor of all pairs is gathered, and none is scattered into by its gradient.
        """
        row = F.embedding(ages, self._of_ages())[:, None].expand(-1, query.shape[1], -1, -1)
        one_hot = F.embedding(ages, torch.eye(NUM_AGES, dtype=key.dtype, device=key.device))
        one_hot = one_hot[:, None].expand(-1, key.shape[1], -1, -1)
        scaled = query * query.shape[-1] ** -0.5
        return torch.cat([scaled, row], -1), torch.cat([key, one_hot], -1)

    def _of_ages(self) -> Float[Tensor, "A A"]:
        """The bias s of each pair of ages."""
        of_gap = self.gap[self.get_buffer("gap_of_ages")].view(NUM_AGES, NUM_AGES)
        is_padding = torch.arange(NUM_AGES, device=of_gap.device) == PADDING
        return of_gap.masked_fill(is_padding, NEVER)


def dense_attention(
    qkv: QKV,
    ages: Int[Tensor, "B N"],
    bias: RelativeBias,
) -> Float[Tensor, "B H N Dh"]:
    """Each event attends to itself and all before it; padding (age `PADDING`) is never read. O(N²·D).

    In blocks of queries, each against the keys up to its end: half the work of a masked square. Not by torch's fused
    attention: the bias of a distance is learned, and no fused kernel gives a mask its gradient.
    """
    query, key = bias.with_gaps(qkv[0], qkv[1], ages)
    place = torch.arange(ages.shape[1], device=ages.device)
    attended = []
    for start in range(0, ages.shape[1], BLOCK):
        own, seen = slice(start, start + BLOCK), slice(0, start + BLOCK)
        distance = place[own, None] - place[seen]
        logit = query[:, :, own] @ key[:, :, seen].mT + bias.of_distance(distance)
        attended.append(logit.softmax(-1) @ qkv[2][:, :, seen])
    return torch.cat(attended, 2)


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
        other = layout.keys(age).mT  # zeros that fill up a block are padding, too
        logit = layout.queries(query) @ layout.keys(key).mT * query.shape[-1] ** -0.5
        logit = logit + bias(distance, layout.queries(age), other)
        logit = logit.masked_fill(~layout.sees(distance, window), NEVER)
        logits.append(layout.back(logit, ages.shape[1]))
        values.append((layout, layout.keys(value)))
    share = torch.cat(logits, -1).softmax(-1)
    shares = torch.split(share, [part.shape[-1] for part in logits], -1)
    parts = [
        layout.back(layout.queries(share) @ seen, ages.shape[1])
        for share, (layout, seen) in zip(shares, values, strict=True)
    ]
    return parts[0] + parts[1]


def target_attention(
    own: tuple[Float[Tensor, "B C D"], Float[Tensor, "B C D"], Float[Tensor, "B C D"]],
    keys: Float[Tensor, "B K D"],
    values: Float[Tensor, "B K D"],
    bias: Float[Tensor, "B K+1"],
    heads: int,
) -> Float[Tensor, "B C D"]:
    """Each candidate attends to the events and itself, and to no other candidate. O(C·K·D).

    Args:
        own: queries, keys and values of the candidates.
        keys: of the events that they see.
        values: of these.
        bias: of each candidate's logits to the events, and last to itself.
        heads: H.
    """
    query, key, value = (split_heads(part, heads) for part in own)
    scale = query.shape[-1] ** -0.5
    seen = scale * query @ split_heads(keys, heads).mT  # (B, H, C, K)
    itself = scale * (query * key).sum(-1, keepdim=True)  # (B, H, C, 1)
    share = (torch.cat([seen, itself], -1) + bias[:, None, None]).softmax(-1)
    return merge_heads(share[..., :-1] @ split_heads(values, heads) + share[..., -1:] * value)


def split_heads(x: Float[Tensor, "B N D"], heads: int) -> Float[Tensor, "B H N Dh"]:
    """Heads before tokens."""
    B, N, D = x.shape
    return x.view(B, N, heads, D // heads).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H N Dh"]) -> Float[Tensor, "B N D"]:
    """Undo `split_heads`."""
    return x.transpose(1, 2).flatten(2)


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
        return distance < window  # of what comes later the bias takes care


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
