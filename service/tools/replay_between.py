"""`absorb replay FILE --between A B`: captured requests scored by two generations, without a service."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.live.keys import shown_user
from models.replay.captured import Captured, recorded_scores
from models.replay.ranks import rank_distance, top_overlap
from service.tools.replay_sides import Side

PERCENTILES = (50, 90, 99, 100)
WORST = 10
"""Requests that the table names."""
TOLERANCE = 1e-6
"""Largest difference of a score from the recorded one that counts as the same."""


@dataclass(frozen=True)
class Parity:
    """Recorded scores against those of the generation that made them.

    Attributes:
        compared: answers of one of the two generations, from the same state.
        differ: answers of them in which a score differs by more than `TOLERANCE`.
        rewritten: answers of one of the two generations whose users have another state by now.
        largest: largest difference of a score among the compared.
    """

    compared: int = 0
    differ: int = 0
    rewritten: int = 0
    largest: float = 0.0

    def with_answer(self, difference: float | None) -> "Parity":
        """After one more answer; None: the state is another one."""
        if difference is None:
            return Parity(self.compared, self.differ, self.rewritten + 1, self.largest)
        differs = self.differ + (not difference <= TOLERANCE)
        return Parity(
            self.compared + 1, differs, self.rewritten, float(np.fmax(self.largest, difference))
        )


@dataclass(frozen=True)
class Row:
    """One request on both sides.

    Attributes:
        request_id: its name.
        user: its user, by `models.live.keys.shown_user`.
        candidates: number of candidates.
        rank_distance: `models.replay.ranks.rank_distance`.
        score_difference: largest difference of a candidate's score.
        top_overlap: share of the first ten that both sides have.
        is_cold: whether either side has no state of the user.
    """

    request_id: str
    user: str
    candidates: int
    rank_distance: float
    score_difference: float
    top_overlap: float
    is_cold: bool


@dataclass(frozen=True)
class Between:
    """What a replay between two sides found.

    Attributes:
        sides: name and artifact of each side.
        rows: of the requests.
        left_out: lines of the file that are no request to score again.
        parity: of the recorded answers.
    """

    sides: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    left_out: int
    parity: Parity

    @property
    def mean_distance(self) -> float:
        """Mean rank distance; 0 without a request."""
        return float(np.mean([row.rank_distance for row in self.rows])) if self.rows else 0.0

    def worst(self) -> list[Row]:
        """The requests that are ranked most differently."""
        return sorted(self.rows, key=lambda row: (-row.rank_distance, -row.score_difference))[
            :WORST
        ]

    def to_dict(self) -> dict[str, Any]:
        """In JSON types."""
        spread = {
            name: _spread(np.array([getattr(row, name) for row in self.rows]))
            for name in ("rank_distance", "score_difference", "top_overlap")
        }
        return {
            "between": [{"name": name, "artifact_id": artifact} for name, artifact in self.sides],
            "requests": len(self.rows),
            "cold": sum(row.is_cold for row in self.rows),
            "left_out": self.left_out,
            **spread,
            "parity": asdict(self.parity),
            "worst": [asdict(row) for row in self.worst()],
        }


def replay_between(requests: Sequence[Captured], left_out: int, a: Side, b: Side) -> Between:
    """Score every request with candidates on both sides.

    Raises:
        ScoreError: an artifact cannot score a request.
    """
    rows, parity = [], Parity()
    for request in requests:
        if not request.candidates:
            continue
        scored = [side.score(request) for side in (a, b)]
        (left, left_s), (right, right_s) = scored
        rows.append(
            Row(
                request.request_id,
                shown_user(request.user_id),
                len(request.candidates),
                rank_distance(left, right),
                float(np.abs(left - right).max()),
                top_overlap(left, right),
                left_s is None or right_s is None,
            )
        )
        for answer in request.answers:
            for side, (scores, as_of_s) in zip((a, b), scored, strict=True):
                if side.generation is not None and side.generation == answer["generation"]:
                    parity = parity.with_answer(_difference(request, answer, scores, as_of_s))
                    break
    sides = [(side.name, side.artifact.artifact_id) for side in (a, b)]
    return Between(sides, rows, left_out, parity)


def _difference(
    request: Captured, answer: dict[str, Any], scores: NDArray[np.float64], as_of_s: int | None
) -> float | None:
    """Largest difference from the recorded scores; None if the state is another one, or there are none."""
    recorded = recorded_scores(request, answer)
    if not recorded or (answer.get("state") or {}).get("as_of_s") != as_of_s:
        return None
    return max(abs(score - float(scores[place])) for place, score in recorded.items())


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    shares = {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
    return {"mean": float(values.mean()), **shares}


def show_between(found: Between, console: Console) -> None:
    """Print the distributions, the requests that differ most, and the parity."""
    plain = found.to_dict()
    table = Table("", "mean", *(f"p{p}" for p in PERCENTILES))
    for name in ("rank_distance", "score_difference", "top_overlap"):
        table.add_row(name.replace("_", " "), *(f"{value:.4g}" for value in plain[name].values()))
    console.print(table)
    worst = Table("request", "user", "candidates", "rank distance", "score difference", "top 10")
    for row in found.worst():
        cells = (
            f"{row.rank_distance:.3f}",
            f"{row.score_difference:.4g}",
            f"{row.top_overlap:.0%}",
        )
        worst.add_row(row.request_id, row.user, str(row.candidates), *cells)
    console.print(worst)
    parity = found.parity
    console.print(
        f"{plain['requests']} requests, {plain['cold']} of users without a state on a side, "
        f"{found.left_out} lines left out\n"
        f"parity with recorded answers: {parity.compared} compared, {parity.differ} differ "
        f"(largest {parity.largest:.2g}), {parity.rewritten} from other states"
    )
