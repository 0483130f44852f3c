"""Fast path: calls the routes that score without FastAPI's routing.

FastAPI searches all routes and enters two stacks of contexts for each request; a `BareRoute` needs neither. The routes
stay registered with FastAPI, which documents them and answers other methods.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from models.contract.errors import AbsorbError

OnError = Callable[[Request, AbsorbError], Awaitable[Response]]


class FastPath:
    """The innermost middleware."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, APIRoute], on_error: OnError) -> None:
        """Store the dependencies.

        Args:
            app: answers every other request.
            routes: path -> POST route whose function takes the request.
            on_error: makes the response of an expected error.
        """
        self._app = app
        self._routes = routes
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        route = self._routes.get(scope["path"]) if is_post else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except AbsorbError as error:
            response = await self._on_error(request, error)
        await response(scope, receive, send)
