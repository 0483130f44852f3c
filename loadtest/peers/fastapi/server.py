"""Bare FastAPI: pydantic models in and out, a plain function that Starlette runs in its thread pool."""

from fastapi import FastAPI
from pydantic import BaseModel

from loadtest.peers.ranker import Ranker


class Candidate(BaseModel):
    """An item, and what the request knows of it."""

    id: str
    fields: dict[str, str]


class Request(BaseModel):
    """A request."""

    user_id: str
    candidates: list[Candidate] | list[str]


class Answer(BaseModel):
    """An answer."""

    scores: list[float]


ranker = Ranker()
app = FastAPI()


@app.post("/score")
def score(request: Request) -> Answer:
    """Score candidates for a user."""
    items = [one if isinstance(one, str) else one.id for one in request.candidates]
    given = [one.fields for one in request.candidates if isinstance(one, Candidate)]
    fields = {name: [values[name] for values in given] for name in ranker.candidate_fields}
    return Answer(scores=ranker.score(request.user_id, items, fields).tolist())
