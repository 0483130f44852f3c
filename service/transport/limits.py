"""How much one request may hold. Checked before the contents are: what is refused must cost little."""

from dataclasses import dataclass

import numpy as np

from models.contract.errors import RequestError, Unquoted
from service.settings import Settings

LARGE_BYTES = 1 << 16
"""Bodies above this are counted before they are parsed, and parsed in a thread of their own. A smaller one cannot hold
enough to delay other requests."""
MAX_CONTEXT_FIELDS = 64
"""Context fields in one request."""
MAX_CANDIDATE_FIELDS = 32
"""Names of candidate fields in one request. A column is kept for each, so this bounds the memory of a body."""
MARGIN = 4
"""The counts before parsing refuse only what is this many times above the limit: the parser's errors say more."""
QUOTE, COMMA, LIST, OBJECT = b'",[{'


@dataclass(frozen=True)
class SlateLimits:
    """Limits of one request, from the settings.

    Attributes:
        candidates: most candidates for a user.
        recent: most items in `recent`.
    """

    candidates: int
    recent: int

    @classmethod
    def of(cls, settings: Settings) -> "SlateLimits":
        """The limits that the settings name."""
        return cls(settings.max_candidates, settings.max_recent)


@dataclass(frozen=True)
class JsonBound:
    """Refuses JSON with far more values, lists and objects than a request has, in a millisecond for each MiB.

    A parser makes a Python object of each: 350,000 empty lists in 1 MiB take .13 s, most of it in the garbage
    collector. Only the signs of JSON's structure are counted, those within strings excepted.

    Attributes:
        containers: most lists and objects together.
        values: most values outside of objects; None bounds only lists and objects.
    """

    containers: int
    values: int | None

    def check(self, raw: bytes) -> None:
        """Return if the body may be parsed. Whether it is JSON at all is left to the parser.

        Raises:
            RequestError: it holds too much.
        """
        if len(raw) <= LARGE_BYTES:
            return
        containers = raw.count(b"[") + raw.count(b"{")
        # Not yet a share for each object: brackets in strings would buy a body a higher bound.
        if self._problem(containers, raw.count(b","), self.values) is None:
            return
        containers, commas = _counted_outside_strings(raw)
        most = None if self.values is None else self.values + MAX_CANDIDATE_FIELDS * containers
        problem = self._problem(containers, commas, most)
        if problem is not None:
            raise problem

    def _problem(self, containers: int, commas: int, most: int | None) -> RequestError | None:
        if containers > self.containers:
            got = Unquoted(f"{containers} lists and objects")
            return RequestError("body", got, f"at most {self.containers}")
        if most is not None and commas > most:
            return RequestError("body", Unquoted(f"{commas} values"), f"at most {most}")
        return None


def bound_of(limits: SlateLimits) -> JsonBound:
    """Bound of bodies of `/v1`: a candidate is at most two objects, of which one holds its fields."""
    containers = MARGIN * (2 * limits.candidates + 4)
    return JsonBound(containers, MARGIN * (limits.candidates + limits.recent + MAX_CONTEXT_FIELDS))


def _counted_outside_strings(raw: bytes) -> tuple[int, int]:
    """Lists and objects, and commas, outside of strings. What is no JSON may be miscounted: its parser ends there."""
    octets = np.frombuffer(raw.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    outside = ~np.logical_xor.accumulate(octets == QUOTE)
    opened = (octets == LIST) | (octets == OBJECT)
    commas = np.count_nonzero((octets == COMMA) & outside)
    return int(np.count_nonzero(opened & outside)), int(commas)
