"""Response bodies of DELETE /v1/users/{id}, as OpenAPI documents them; `forget_routes.py` makes them."""

from service.transport.schemas import Answer


class RemovedInfo(Answer):
    """What was removed of one kind."""

    what: str
    model: str | None
    generation: str | None
    """Where the generation's records lie: the name of the generation, or of the one that it overwrites."""

    number: int


class ForgetResponse(Answer):
    """A user who is forgotten."""

    user: str
    """SHA-256 of the user id."""

    new: bool
    """Whether the user was not forgotten before."""

    removed: list[RemovedInfo]
    to_do: list[str]
    """What this request does not reach, and what does."""
