"""Self-attention among the events of a history: to all earlier events, or to near ones and every r-th (LightSUAN).

Source: SUAN, arXiv:2508.15326. The form of the sparse pattern is ours, since the paper's text was not at hand.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from models.contract.age import NUM_AGES, bucket_days
from models.contract.schema import PADDING

NUM_GAPS = 129
"""Number of buckets of time gaps: ⌊ln(max(seconds, 1)) / 0.301⌋, at most 128, as in the released code."""
DAY_S = 86_400
BLOCK = 128
"""Queries per block in dense attention: 1.6 times faster than one block at L = 512, and no slower at 128."""
NEVER = -1e9
"""Added to the logit of a masked pair. Finite, so that an event whose pairs are all masked does not give NaN."""
QKV = tuple[Float[Tensor, "B H N Dh"], Float[Tensor, "B H N Dh"], Float[Tensor, "B H N Dh"]]
"""Queries, keys and values of the same events, by head."""


def gap_buckets() -> Int[Tensor, "A A"]:
    """Bucket of the time between two events, by the buckets of their ages; as exact as those, to half an octave."""
    seconds = torch.from_numpy(bucket_days()).double() * DAY_S
    gap = (seconds[:, None] - seconds[None]).abs().clamp(min=1)
    return (gap.log() / 0.301).floor().clamp(max=NUM_GAPS - 1).long()


class RelativeBias(nn.Module):
    """R_ij = p[i − j] + s[bucket(|t_i − t_j|)], the same for all heads and blocks.

    Args:
        length: number of positions; distances are below it.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.distance = nn.Parameter(0.02 * torch.randn(length))
        self.gap = nn.Parameter(0.02 * torch.randn(NUM_GAPS))
        self.register_buffer("gap_of_ages", gap_buckets().flatten(), persistent=False)

    def forward(
        self, distance: Int[Tensor, "..."], age_i: Int[Tensor, "..."], age_j: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """R of pairs of events; the three arguments broadcast.

        Args:
            distance: i − j; below 0 is masked.
            age_i: age bucket of the event that attends.
            age_j: age bucket of the event that is attended to; `PADDING` is masked.
        """
        return self.of_distance(distance) + self._of_ages()[age_i, age_j]

    def of_distance(self, distance: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """p[distance]; a distance below 0, that is a later event, is masked."""
        last = (
            len(self.distance) - 1
        )  # p of distance 0 is the last entry: a longer history adds entries in front
        p = self.distance[last - distance.clamp(min=0)]
        return p.masked_fill(distance < 0, NEVER)

    def with_gaps(
        self,
        query: Float[Tensor, "B H N Dh"],
        key: Float[Tensor, "B H N Dh"],
        ages: Int[Tensor, "B N"],
    ) -> tuple[Float[Tensor, "B H N E"], Float[Tensor, "B H N E"]]:
        """Extended queries and keys whose products are q·k/√d + s.

        s of a pair is the product of a row of its table and a one-hot age. So neither the forward pass gathers a
        tensor of all pairs, nor does the gradient scatter into one.
        """
        row = F.embedding(ages, self._of_ages())[:, None].expand(-1, query.shape[1], -1, -1)
        one_hot = F.embedding(ages, torch.eye(NUM_AGES, dtype=key.dtype, device=key.device))
        one_hot = one_hot[:, None].expand(-1, key.shape[1], -1, -1)
        scaled = query * query.shape[-1] ** -0.5
        return torch.cat([scaled, row], -1), torch.cat([key, one_hot], -1)

    def _of_ages(self) -> Float[Tensor, "A A"]:
        """The bias s of each pair of age buckets."""
        of_gap = self.gap[self.get_buffer("gap_of_ages")].view(NUM_AGES, NUM_AGES)
        is_padding = torch.arange(NUM_AGES, device=of_gap.device) == PADDING
        return of_gap.masked_fill(is_padding, NEVER)


def dense_attention(
    qkv: QKV,
    ages: Int[Tensor, "B N"],
    bias: RelativeBias,
) -> Float[Tensor, "B H N Dh"]:
    """Each event attends to itself and all earlier events; padding (age `PADDING`) is masked. O(N²·D).

    Computed in blocks of queries, each with the keys up to its end: half the work of a masked square. torch's fused
    attention cannot be used: the bias is learned, and no fused kernel returns the gradient of a mask.
    """
    query, key = bias.with_gaps(qkv[0], qkv[1], ages)
    position = torch.arange(ages.shape[1], device=ages.device)
    attended = []
    for start in range(0, ages.shape[1], BLOCK):
        own, seen = slice(start, start + BLOCK), slice(0, start + BLOCK)
        distance = position[own, None] - position[seen]
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
    """Each event attends to those at a distance below `window` or a multiple of `stride`, in one softmax.

    O(N·(window + N/stride)·D): two small dense attentions, one among neighbours in blocks of `window` events and one
    among the events of equal position modulo `stride`. Their logits are joined before the softmax.

    Args:
        qkv: queries, keys and values of the events.
        ages: age bucket of each event.
        bias: R.
        window: distance from which events are no neighbours; at least 1.
        stride: step between the further events; at least 1.
    """
    query, key, value = qkv
    position = torch.arange(ages.shape[1], device=ages.device)[None, None, :, None]
    age = ages[:, None, :, None]
    logits, values = [], []
    for layout in (_Near(window), _Strided(stride)):
        distance = layout.queries(position) - layout.keys(position).mT  # (1, 1, G, Q, W)
        other = layout.keys(age).mT  # 0 where a block is padded, which is PADDING
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
    """Each candidate attends to the events and to itself, not to other candidates. O(C·K·D).

    Args:
        own: queries, keys and values of the candidates.
        keys: keys of the events.
        values: values of the events.
        bias: R of a candidate and each event, and last of a candidate and itself.
        heads: H.
    """
    query, key, value = (split_heads(part, heads) for part in own)
    scale = query.shape[-1] ** -0.5
    seen = scale * query @ split_heads(keys, heads).mT  # (B, H, C, K)
    itself = scale * (query * key).sum(-1, keepdim=True)  # (B, H, C, 1)
    share = (torch.cat([seen, itself], -1) + bias[:, None, None]).softmax(-1)
    return merge_heads(share[..., :-1] @ split_heads(values, heads) + share[..., -1:] * value)


def split_heads(x: Float[Tensor, "B N D"], heads: int) -> Float[Tensor, "B H N Dh"]:
    """Split the width into heads, and put the head axis before the tokens."""
    B, N, D = x.shape
    return x.view(B, N, heads, D // heads).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H N Dh"]) -> Float[Tensor, "B N D"]:
    """Inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def seen_from(length: int, window: int, stride: int) -> Int[Tensor, "K"]:
    """Positions of the `length` events that the next one, a candidate, attends to.

    Args:
        length: number of events.
        window: events at a smaller distance are kept; 0 keeps all.
        stride: of the other events, those at a multiple of `stride` are kept.
    """
    distance = length - torch.arange(length)
    is_seen = (distance < window) | (distance % stride == 0) if window else distance > 0
    return is_seen.nonzero().squeeze(1)


class _Near:
    """Layout in blocks of `size` events; each event attends to its own block and to the one before."""

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
        return distance < window  # the bias masks later events


class _Strided:
    """Layout in which the events of equal position modulo `size` attend to each other."""

    def __init__(self, size: int) -> None:
        self.size = size

    def queries(self, x: Shaped[Tensor, "B H N D"]) -> Shaped[Tensor, "B H G Q D"]:
        return _fold(x, self.size).transpose(2, 3)

    keys = queries

    def back(self, x: Shaped[Tensor, "B H G Q W"], length: int) -> Shaped[Tensor, "B H N W"]:
        return x.transpose(2, 3).flatten(2, 3)[:, :, -length:]

    def sees(self, distance: Int[Tensor, "..."], window: int) -> Bool[Tensor, "..."]:
        return distance >= window  # `_Near` covers the nearer ones


def _fold(x: Shaped[Tensor, "B H N D"], size: int) -> Shaped[Tensor, "B H G Q D"]:
    """Split into blocks of `size` events; zeros (padding) before the oldest event fill up the first block."""
    padded = F.pad(x, (0, 0, -x.shape[2] % size, 0))
    B, H, N, D = padded.shape
    return padded.view(B, H, N // size, size, D)
