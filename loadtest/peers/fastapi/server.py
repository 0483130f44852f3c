"""Bare FastAPI: pydantic models in and out, a plain function that Starlette runs in its thread pool."""

from fastapi import FastAPI
from pydantic import BaseModel

from loadtest.peers.ranker import Ranker


class Request(BaseModel):
    """A request."""

    user_id: str
    candidates: list[str]


class Answer(BaseModel):
    """An answer."""

    scores: list[float]


ranker = Ranker()
app = FastAPI()


@app.post("/score")
def score(request: Request) -> Answer:
    """Score candidates for a user."""
    return Answer(scores=ranker.score(request.user_id, request.candidates).tolist())
