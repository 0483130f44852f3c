"""DELETE /v1/users/{id}: for administrators. Neither the answer nor the log names the user in clear."""

import logging
from collections.abc import Iterator

from fastapi import APIRouter, Depends, Response

from models.contract.errors import RequestError, Unquoted
from models.contract.vocabulary import MAX_ID_LENGTH, are_ids
from models.live.forget import Removed
from service.http.forget_schemas import ForgetResponse
from service.store.forgetting import Forgetting, Forgotten
from service.transport.auth import Access
from service.transport.responses import ERRORS, JsonResponse

Json = dict[str, object]
COMMAND = "absorb forget"
ELSEWHERE = (
    f"run folders of builds, captured files of other machines and the server's files: {COMMAND}"
)
NO_RIGHTS = f"the cache lets this service write the tombstone and remove nothing: {COMMAND}"

log = logging.getLogger(__name__)


def forget_routes(forgetting: Forgetting, access: Access) -> APIRouter:
    """DELETE /v1/users/{user_id}."""
    router = APIRouter(prefix="/v1", responses=ERRORS, dependencies=[Depends(access.admin)])

    @router.delete("/users/{user_id:path}", response_model=ForgetResponse)
    async def forget(user_id: str) -> Response:
        """Forget a user: remove what the cache and the services hold, and keep the user out of later builds.

        May be sent again. 202: the tombstone is written, and the cache lets this service remove nothing.
        """
        if not are_ids([user_id]):
            expected = f"1 to {MAX_ID_LENGTH} printable characters"
            raise RequestError("user_id", Unquoted("what cannot be an id"), expected)
        forgotten = await forgetting.forget(user_id)
        answer = _answer(forgotten)
        log.info("user forgotten", extra={"user": forgotten.user, "removed": answer["removed"]})
        return JsonResponse(answer, 200 if forgotten.removed is not None else 202)

    return router


def _answer(forgotten: Forgotten) -> Json:
    """Make a `ForgetResponse`."""
    removed = forgotten.removed
    rows = [] if removed is None else list(_rows(removed))
    to_do = [NO_RIGHTS] if removed is None else [*map(_unclean, removed.unclean)]
    return {
        "user": forgotten.user,
        "new": removed is not None and removed.is_new,
        "removed": rows,
        "to_do": [*to_do, ELSEWHERE],
    }


def _rows(removed: Removed) -> Iterator[Json]:
    for what, counts in (("record", removed.records), ("base history", removed.histories)):
        for (model, place), number in sorted(counts.items()):
            yield {"what": what, "model": model, "generation": place, "number": number}
    others = {"live events": removed.live_events, "mark of new events": int(removed.touched)}
    for what, number in {**others, **removed.entries}.items():
        if number:
            yield {"what": what, "model": None, "generation": None, "number": number}


def _unclean(stream: str) -> str:
    return f"{stream}: bytes of removed entries stay until the entries beside them are folded"
