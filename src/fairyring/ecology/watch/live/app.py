"""The files of the page and its WebSocket, with checks of each request.

There is no password: whoever reaches the server can turn every knob. Pages of other sites cannot. A request is served only under a
name of this machine (`Host`), and a WebSocket is opened only for a page that came from here (`Origin`), so neither a link nor DNS
rebinding reaches the world.
"""

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fairyring.core.errors import EcologyError, FairyringError, MissingExtra
from fairyring.ecology.watch.live import messages
from fairyring.ecology.watch.live.films import Films
from fairyring.ecology.watch.live.loop import Loop
from fairyring.ecology.watch.live.pages import Page, answer, greeting
from fairyring.ecology.watch.scene import Scene

FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/panels.css": ("panels.css", "text/css"),
    "/world.css": ("world.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/dish.js": ("dish.js", "text/javascript"),
    "/bodies.js": ("bodies.js", "text/javascript"),
    "/frames.js": ("frames.js", "text/javascript"),
    "/panels.js": ("panels.js", "text/javascript"),
    "/knobs.js": ("knobs.js", "text/javascript"),
    "/save.js": ("save.js", "text/javascript"),
    "/course.js": ("course.js", "text/javascript"),
}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
MOST_PAGES = 8

log = logging.getLogger(__name__)


def application(loop: Loop, scene: Scene, host: str, on_start: Callable[[], None]) -> Any:
    """The Starlette application: the files of the page and its WebSocket, with checks of `Host` and `Origin`."""
    try:
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse, Response
        from starlette.routing import Route, WebSocketRoute
        from starlette.websockets import WebSocketDisconnect
    except ImportError as error:
        raise MissingExtra("starlette", extra="live", purpose="the live page") from error
    here = Path(__file__).parent
    contents = {path: ((here / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
    session = secrets.token_hex(8)
    pages: set[Page] = set()
    films = Films()

    async def film(request: Any) -> Any:
        if not _host_is_ours(request.headers.get("host", ""), host):
            return PlainTextResponse("This page is not served under that name.", 421)
        content = films.read(request.path_params["name"])
        if content is None:
            return PlainTextResponse("There is no such film.", 404)
        return Response(content, media_type="video/mp4", headers=HEADERS)

    async def file(request: Any) -> Any:
        if not _host_is_ours(request.headers.get("host", ""), host):
            return PlainTextResponse("This page is not served under that name.", 421)
        body, kind = contents[request.url.path]
        return Response(body, media_type=kind, headers=HEADERS)

    async def look(socket: Any) -> None:
        headers = socket.headers
        if not _host_is_ours(headers.get("host", ""), host) or not _same_origin(headers):
            await socket.close(1008)
            return
        await socket.accept()
        page, sending = Page(asyncio.get_running_loop()), None
        try:
            try:
                if len(pages) >= MOST_PAGES:
                    raise _crowded()
                pages.add(page)
                loop.join(page)
                loop.do(greeting(loop, page, session), page.tell)
            except EcologyError as error:
                # There are too many pages, or the world is too busy. The page shows the error and tries again.
                await socket.send_text(messages.write(messages.refusal(error)))
                await socket.close(1013)
                return
            sending = asyncio.create_task(_send(socket, page))
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                try:
                    asked = messages.read(message.get("text") or message.get("bytes") or b"")
                    answer(loop, page, asked, session, films)
                except FairyringError as error:
                    page.tell(messages.refusal(error))
        except WebSocketDisconnect:
            pass
        finally:
            loop.leave(page)
            pages.discard(page)
            if sending is not None:
                sending.cancel()

    async def _send(socket: Any, page: Page) -> None:
        try:
            while (item := await page.next()) is not None:
                await (socket.send_bytes(item) if isinstance(item, bytes) else socket.send_text(item))
            await socket.close(1008)
        except (WebSocketDisconnect, RuntimeError):
            # The page left while something was being sent; the receiving side cleans up.
            log.debug("a page left")

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        asyncio.get_running_loop().call_later(0, on_start)
        with films:
            yield

    routes = [Route(path, file) for path in FILES]
    routes += [Route("/film/{name}", film), WebSocketRoute("/look", look)]
    return Starlette(routes=routes, lifespan=lifespan)


def _host_is_ours(header: str, host: str) -> bool:
    """Whether a `Host` header names this machine in a way that no foreign name server controls.

    That is an address, `localhost`, or the name that the server was told to listen on. If it listens on loopback only, the address
    must be a loopback address too; an empty host means all addresses. The port is not checked, since it may be forwarded.
    """
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name in ("localhost", host.lower()):
        return True
    try:
        bound = ipaddress.ip_address({"localhost": "127.0.0.1", "": "0.0.0.0"}.get(host, host))
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not bound.is_loopback


def _same_origin(headers: Any) -> bool:
    """Whether a page from here opens the socket. Browsers always send `Origin`, and scripts cannot forge it."""
    origin = urlsplit(headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host")


def _crowded() -> EcologyError:
    return EcologyError(
        "live page", given=f"{MOST_PAGES} open pages", expected="fewer", do="Close one of them."
    )
