"""What several models answer to one query: the type, and the parts of comparing that need no pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract.vocabulary import Vocabulary
from service.errors import NotReadyError
from service.generations.serving import Serving
from service.observability.metrics import Stages
from service.scoring.ranking import Agreement, agreements

if TYPE_CHECKING:
    from service.scoring.pipeline import Query, Scores


@dataclass(frozen=True)
class Comparison:
    """What several models answer to one query, and how far they agree.

    Attributes:
        query: as asked; that of a model's scores has only the context fields that the model knows.
        outcomes: model -> its scores, or why it has none.
        top_k: candidates of each ranking, and of the overlaps.
        agreements: one for each pair of models that gave scores.
        stages: sums over the models, and the agreement's.
    """

    query: "Query"
    outcomes: Mapping[str, "Scores | Exception"]
    top_k: int
    agreements: Sequence[Agreement]
    stages: Stages


def check_context(
    picked: Mapping[str, Serving | NotReadyError], context: Mapping[str, object]
) -> None:
    """Refuse fields that no model has. Where one is not loaded, nobody can say which fields it has."""
    loaded = [serving for serving in picked.values() if isinstance(serving, Serving)]
    if len(loaded) == len(picked):
        fields = {name: () for one in loaded for name in one.artifact.vocabulary.context}
        Vocabulary(items=(), user={}, context=fields).context_ids(context)


def join(
    query: "Query", outcomes: Mapping[str, "Scores | Exception"], top_k: int, stages: Stages
) -> Comparison:
    """The part of a comparison that runs in a worker's thread."""
    stages.end("queue")
    scored = {name: one for name, one in outcomes.items() if not isinstance(one, Exception)}
    found = agreements({name: one.scores for name, one in scored.items()}, top_k)
    stages.end("agreement")
    total = Stages.added_up([*(one.stages for one in scored.values()), stages])
    return Comparison(query, outcomes, top_k, found, total)
