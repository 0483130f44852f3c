"""Response bodies that `/v1` and `/v2` share, as OpenAPI documents them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base class of response bodies: every field is always present."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ErrorBody(Answer):
    """Body of every response with status 400 or higher."""

    error: str
    """Which field was wrong, what came and what was expected."""


class Live(Answer):
    """The process answers."""

    live: Literal[True]


class Ready(Answer):
    """The process can score."""

    ready: Literal[True]


class NotReady(ErrorBody):
    """The process cannot score; `error` says why."""

    ready: Literal[False]
