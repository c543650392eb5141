"""The service as an ASGI application: routes for devices, operators, pages and machines that watch it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fairyring.core.extras import require
from fairyring.service.device_routes import device_routes
from fairyring.service.front import Front
from fairyring.service.operator_routes import Operating, operator_routes

if TYPE_CHECKING:
    from starlette.applications import Starlette


def application(front: Front, operating: Operating) -> "Starlette":
    """The application.

    Args:
        front: serves devices.
        operating: serves operators.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    require("starlette", extra="service", purpose="a service")
    require("httpx2", extra="service", purpose="a service of several processes")
    import httpx2
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    passing = httpx2.AsyncClient(timeout=60.0)

    async def forward(request: Request, address: str, body: bytes) -> Response:
        """Pass a request on to the process that serves its session."""
        query = request.scope["query_string"].decode("latin-1")
        url = address.rstrip("/") + request.scope["path"] + (f"?{query}" if query else "")
        kept = {name: value for name, value in request.headers.items() if name.startswith("fairyring-")}
        try:
            answer = await passing.request(request.method, url, content=body, headers=kept)
        except httpx2.HTTPError:
            return Response(status_code=503, headers={"retry-after": "1"})
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await front.start()
        try:
            yield
        finally:
            await front.stop()
            await passing.aclose()

    routes = [*device_routes(front, forward), *operator_routes(front, operating)]
    return Starlette(routes=routes, lifespan=lifespan)
