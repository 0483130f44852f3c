"""Requests like those of a ranking front end: few users send most requests, slates and recent events vary in length."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

USER_EXPONENT = 1.0
ITEM_EXPONENT = 0.8
MEDIAN_CANDIDATES = 200
SIGMA_CANDIDATES = 0.7
"""Standard deviation of the logarithm: nine slates in ten have 63 to 632 candidates."""
MIN_CANDIDATES, MAX_CANDIDATES = 50, 1000
SHARE_WITHOUT_RECENT = 0.3
"""Share of requests without recent events, for which the record's own are used."""
SHARE_UNKNOWN_USERS = 0.02
SHARE_RANKED = 0.5
TOP_K = 20


@dataclass(frozen=True)
class Sample:
    """Users, items and context of the requests.

    Attributes:
        model: name of the model.
        users: ids of published users.
        items: item ids of the model's catalogue.
        context: context field -> values that occur.
        recent_length: largest number of recent events in a request.
        candidate_fields: candidate field -> values that occur; each candidate draws one of each.
    """

    model: str
    users: list[str]
    items: list[str]
    context: dict[str, list[str]]
    recent_length: int
    candidate_fields: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.users or not self.items:
            raise ValueError(
                f"sample: got {len(self.users)} users and {len(self.items)} items, expected at least one of each"
            )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Sample":
        """Inverse of `save`."""
        return cls(**json.loads(path.read_text()))


class Zipf:
    """Ranks 0, 1, 2, … drawn with probability proportional to (rank + 1)^-exponent."""

    def __init__(self, size: int, exponent: float) -> None:
        weight = np.arange(1, size + 1, dtype=np.float64) ** -exponent
        self._upper = np.cumsum(weight) / weight.sum()

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` ranks."""
        # The last bound may round to just below 1, and a draw may lie above it.
        return np.minimum(np.searchsorted(self._upper, rng.random(count)), len(self._upper) - 1)


class Traffic:
    """A source of request bodies; the same seed gives the same bodies."""

    def __init__(self, sample: Sample, seed: int) -> None:
        self._sample = sample
        self._rng = np.random.default_rng(seed)
        # Popularity must not depend on the order in which users and items are stored.
        self._users = self._rng.permutation(len(sample.users))
        self._items = self._rng.permutation(len(sample.items))
        self._user_rank = Zipf(len(sample.users), USER_EXPONENT)
        self._item_rank = Zipf(len(sample.items), ITEM_EXPONENT)

    def bodies(self, count: int) -> list[bytes]:
        """`count` request bodies as JSON."""
        return [json.dumps(self.request()).encode() for _ in range(count)]

    def request(self) -> dict[str, Any]:
        """One request body."""
        sample, rng = self._sample, self._rng
        request: dict[str, Any] = {
            "model": sample.model,
            "user_id": self._user(),
            "candidates": self._candidates(),
            "context": {name: str(rng.choice(values)) for name, values in sample.context.items()},
        }
        if rng.random() >= SHARE_WITHOUT_RECENT:
            request["recent"] = self._draw_items(int(rng.integers(1, sample.recent_length + 1)))
        if rng.random() < SHARE_RANKED:
            request["top_k"] = TOP_K
        return request

    def _user(self) -> str:
        if self._rng.random() < SHARE_UNKNOWN_USERS:
            return f"new-{self._rng.integers(1 << 32):08x}"
        rank = int(self._user_rank.draw(self._rng, 1)[0])
        return self._sample.users[int(self._users[rank])]

    def _candidates(self) -> list[Any]:
        size = self._rng.lognormal(np.log(MEDIAN_CANDIDATES), SIGMA_CANDIDATES)
        count = int(np.clip(size, MIN_CANDIDATES, MAX_CANDIDATES))
        # A slate names each item once. A small catalogue gives shorter slates.
        items = list(dict.fromkeys(self._draw_items(4 * count)))[:count]
        fields = self._sample.candidate_fields
        if not fields:
            return items
        columns = [self._rng.choice(values, len(items)).tolist() for values in fields.values()]
        given = [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]
        return [{"id": item, "fields": its} for item, its in zip(items, given, strict=True)]

    def _draw_items(self, count: int) -> list[str]:
        ranks = self._item_rank.draw(self._rng, count)
        return [self._sample.items[self._items[rank]] for rank in ranks]
