"""Slates -> batches: each slate's history, its context and its candidates.

The history of a target holds only events strictly before it. A batch has U slates of C targets: the history is gathered
and encoded once per slate, which makes long histories affordable in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.negatives import NegativeSampler
from builder.dataset.pool_candidates import Candidates, PoolCandidates, real_in_turn
from builder.dataset.slates import Part, Slates, find_slates
from builder.dataset.strata import stratified
from builder.ingest.events import Events
from builder.recipe.sampling import SamplingRule
from models.batch import Batch, Context, Slate, User
from models.contract.age import age_buckets

__all__ = ["BatchSource", "Part", "Slates", "Targets", "find_slates"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Targets:
    """A batch's targets as arrays, for metrics by user and for baselines that count. B slates of C targets.

    Attributes:
        user: index of each slate's user, [B].
        items: catalogue rows, [B, C].
        label: 1 for a click or purchase, [B, C].
        mask: false at padding, [B, C].
        history: catalogue rows of the latest L events, the newest last, [B, L].
        ages: their age buckets, [B, L].
        event: index of the event behind each target, -1 for a negative that is no event, [B, C].
        weight: weight of each target in the loss, 0 at padding, [B, C].
        slate: index of each row among the slates that the batch was chosen from, [B].
    """

    user: Ints
    items: Ints
    label: Floats
    mask: NDArray[np.bool_]
    history: Ints
    ages: Ints
    event: Ints
    weight: Floats
    slate: Ints


class BatchSource:
    """Turns slates into batches.

    Args:
        events: the log.
        sampler: draws negatives; None: the log has its own, or pools.
        slate_events: largest number of events per slate, without drawn negatives. Not used with pools.
        per_positive: negatives per positive. Not used with pools.
        sampling: how candidates are drawn from pools. Used with pools only.
    """

    def __init__(
        self,
        events: Events,
        sampler: NegativeSampler | None,
        *,
        slate_events: int,
        per_positive: int,
        sampling: SamplingRule | None = None,
    ) -> None:
        self.events, self.sampler = events, sampler
        self.slate_events, self.per_positive = slate_events, per_positive
        self._pools = (
            None if events.pools is None else PoolCandidates(events, sampling or SamplingRule())
        )
        self._item = np.asarray(events.item).astype(np.int64)
        self._label = np.asarray(events.label)
        self._ts_s = np.asarray(events.ts_s)
        self._weight = None if events.weight is None else np.asarray(events.weight)
        # A history holds positives only; in a log of impressions `_clicks` skips the items that were only shown.
        self._clicks = np.concatenate([[0], np.cumsum(self._label)])
        self._clicked = np.flatnonzero(self._label)

    @property
    def has_pools(self) -> bool:
        """Whether candidates come from pools: `batch` samples them, `whole` gives all."""
        return self._pools is not None

    def num_positives(self, slates: Slates) -> Ints:
        """Number of positives of each slate of a log with pools, [slates]."""
        return self._require_pools().num_positives(slates)

    def pool_sizes(self, slates: Slates) -> Ints:
        """Number of candidates of each slate of a log with pools, [slates]."""
        return self._require_pools().sizes(slates)

    def batch(
        self,
        slates: Slates,
        chosen: Ints,
        rng: np.random.Generator,
        slate_weight: NDArray[np.floating] | None = None,
    ) -> tuple[Batch, Targets]:
        """The batch of the chosen slates. With pools, candidates are sampled, and weight and offset correct for it.

        Args:
            slates: slates to choose from.
            chosen: indices of slates, [B].
            rng: draws candidates.
            slate_weight: factor of each chosen slate's weights, [B]; None: 1.
        """
        some = slates.at(chosen)
        candidates = (
            self._shown_or_drawn(some, rng)
            if self._pools is None
            else self._pools.sample(some, rng)
        )
        return self._batch(some, chosen, candidates, slate_weight)

    def whole(self, slates: Slates, chosen: Ints) -> tuple[Batch, Targets]:
        """The chosen slates with every candidate of their pools, without weights and offset.

        Raises:
            ValueError: the log has no pools.
        """
        some = slates.at(chosen)
        return self._batch(some, chosen, self._require_pools().whole(some), None)

    def epoch(
        self, slates: Slates, size: int, rng: np.random.Generator, *, shuffle: bool
    ) -> Iterator[tuple[Batch, Targets]]:
        """Batches of `size` slates: as many as hold all slates.

        Every slate comes once, except when slates with pools are shuffled: then batches are stratified
        (`SamplingRule.with_positives`).
        """
        for chosen, weight in self.order(slates, size, rng, shuffle=shuffle):
            yield self.batch(slates, chosen, rng, weight)

    def order(
        self, slates: Slates, size: int, rng: np.random.Generator, *, shuffle: bool
    ) -> Iterator[tuple[Ints, NDArray[np.float64] | None]]:
        """An epoch's batches as indices of slates and the slates' weights, which `batch` takes."""
        if shuffle and self._pools is not None and size > 1:
            has_positive = self._pools.num_positives(slates) > 0
            yield from stratified(has_positive, size, self._pools.rule.with_positives, rng)
            return
        order = rng.permutation(len(slates)) if shuffle else np.arange(len(slates))
        for start in range(0, len(order), size):
            yield order[start : start + size], None

    def _require_pools(self) -> PoolCandidates:
        if self._pools is None:
            raise ValueError("events: got a log without pools, expected one with pools")
        return self._pools

    def _batch(
        self,
        slates: Slates,
        chosen: Ints,
        candidates: Candidates,
        slate_weight: NDArray[np.floating] | None,
    ) -> tuple[Batch, Targets]:
        schema, user = self.events.schema, slates.user
        length, recent = schema.history_length, schema.recent_length
        history, ages = self._latest(user, slates.first, max(length, recent))
        weight = candidates.weight
        if slate_weight is not None:
            weight = weight * slate_weight[:, None].astype(np.float32)
        long, long_ages = history[:, -length:], ages[:, -length:]
        profile, context = self.events.user_fields[user], self.events.context[slates.begin]
        tensors = Batch(
            User(_tensor(long), _tensor(long_ages), _tensor(profile)),
            Context(_tensor(history[:, history.shape[1] - recent :]), _tensor(context)),
            Slate(_tensor(candidates.items), _tensor(candidates.fields)),
            torch.from_numpy(candidates.label),
            torch.from_numpy(candidates.mask),
            torch.from_numpy(weight),
            torch.from_numpy(candidates.offset),
        )
        return tensors, Targets(
            user,
            candidates.items,
            candidates.label,
            candidates.mask,
            long,
            long_ages,
            candidates.event,
            weight,
            np.asarray(chosen),
        )

    def _latest(self, user: Ints, before: Ints, length: int) -> tuple[Ints, Ints]:
        return self.histories(user, before, self._ts_s[before], length)

    def histories(self, user: Ints, before: Ints, now_s: Ints, length: int) -> tuple[Ints, Ints]:
        """Catalogue rows and age buckets of the latest positives, right-aligned; [B, length] each.

        Args:
            user: index of each user, [B].
            before: index of the event just behind each history, at most that behind the user's last event, [B].
            now_s: epoch second from which ages are measured, [B].
            length: number of events; fewer are padded.
        """
        end = self._clicks[before]
        begin = self._clicks[self.events.offsets[user]]
        position = end[:, None] - np.arange(length, 0, -1)
        valid = position >= begin[:, None]
        if not len(self._clicked):
            return np.zeros(position.shape, np.int64), np.zeros(position.shape, np.int64)
        event = self._clicked[np.where(valid, position, 0)]
        ages = age_buckets(now_s[:, None] - self._ts_s[event])
        return np.where(valid, self._item[event], 0), np.where(valid, ages, 0)

    def _shown_or_drawn(self, slates: Slates, rng: np.random.Generator) -> Candidates:
        """The slates' own events, and drawn negatives where the log has none."""
        index = slates.begin[:, None] + np.arange(self.slate_events)
        valid = index < slates.end[:, None]
        index = np.where(valid, index, slates.begin[:, None])
        items = np.where(valid, self._item[index], 0)
        label = self._label[index].astype(np.float32)
        event = np.where(valid, index, -1)
        if self.sampler is not None:
            drawn = [self._draw(event, valid, rng) for _ in range(self.per_positive)]
            shape = (len(slates), self.slate_events * self.per_positive)
            items = np.concatenate([items, *drawn], 1)
            label = np.concatenate([label, np.zeros(shape, np.float32)], 1)
            event = np.concatenate([event, np.full(shape, -1)], 1)
        mask = items > 0
        weight = mask.astype(np.float32)
        if self._weight is not None:
            # A negative that is drawn for an event weighs as much, so that weights do not shift the odds.
            own = np.where(valid, self._weight[index], 0)
            weight *= np.tile(own, items.shape[1] // self.slate_events)
        return Candidates(
            items=np.take_along_axis(items, real_in_turn(mask), 1),
            fields=np.zeros((*items.shape, 0), np.int64),
            label=label,
            mask=mask,
            weight=weight,
            offset=np.zeros((len(slates), 1), np.float32),
            event=event,
        )

    def _draw(self, event: Ints, valid: NDArray[np.bool_], rng: np.random.Generator) -> Ints:
        drawn = np.zeros(event.shape, np.int64)
        if self.sampler is not None:
            drawn[valid] = self.sampler.draw(event[valid], rng)
        return drawn


def _tensor(values: NDArray[np.integer]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
