"""BentoML: a service whose number of workers comes with `bentoml serve --arg workers=N`."""

from typing import Any

import bentoml

from loadtest.peers.ranker import Ranker

arguments = bentoml.use_arguments()


@bentoml.service(workers=int(arguments.workers), logging={"access": {"enabled": False}})
class RankerService:
    """The ranker as a BentoML service."""

    def __init__(self) -> None:
        self._ranker = Ranker()

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML is in the peer's own environment only
    def score(self, user_id: str, candidates: list[Any]) -> list[float]:
        """Score candidates for a user."""
        scores: list[float] = self._ranker.score_json(user_id, candidates).tolist()
        return scores
