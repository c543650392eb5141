"""The service as an ASGI application: routes for devices, operators, pages and machines that watch it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fairyring.core.errors import StorageError
from fairyring.core.extras import require
from fairyring.service.device_routes import PASSED, device_routes
from fairyring.service.front import Front
from fairyring.service.openapi import document
from fairyring.service.operator_routes import Operating, operator_routes

if TYPE_CHECKING:
    from starlette.applications import Starlette


def application(front: Front, operating: Operating, certificate: Path | None = None) -> "Starlette":
    """The application.

    Args:
        front: serves devices.
        operating: serves operators.
        certificate: file of the service's certificate; None without TLS.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    require("starlette", extra="service", purpose="a service")
    require("httpx2", extra="service", purpose="a service of several processes")
    import httpx2
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    # A held answer holds its connection, and each device may wait for one. Processes of one service have one certificate.
    passing = httpx2.AsyncClient(
        timeout=60.0,
        verify=_trusting(certificate),
        limits=httpx2.Limits(max_connections=None),
        trust_env=False,
    )

    async def forward(request: Request, address: str, body: bytes) -> Response:
        """Pass a request on to the process that serves its session."""
        query = request.scope["query_string"].decode("latin-1")
        url = address.rstrip("/") + request.url.path + (f"?{query}" if query else "")
        kept = {name: value for name, value in request.headers.items() if name.startswith("fairyring-")}
        kept[PASSED] = "1"
        try:
            answer = await passing.request(request.method, url, content=body, headers=kept)
        except httpx2.HTTPError:
            raise StorageError(
                "session",
                given="a process that does not answer",
                expected="one that serves it",
                do="Try again.",
            ) from None
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await front.start()
        try:
            yield
        finally:
            await front.stop()
            await passing.aclose()

    async def described(request: Request) -> Response:
        return Response(document(), media_type="application/json")

    routes = [*device_routes(front, forward), *operator_routes(front, operating)]
    routes.append(Route("/v1/openapi.json", described, methods=["GET"]))
    return Starlette(routes=routes, lifespan=lifespan)


def _trusting(certificate: Path | None) -> ssl.SSLContext | bool:
    """What other processes of the service are known by: the certificate that all of them have."""
    if certificate is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is what is known
    context.load_verify_locations(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # also one that an authority has signed
    return context
