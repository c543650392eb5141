"""Requests and answers, as all routes of the service read and write them: bodies within limits, in time, and errors as problems."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fairyring.core.errors import FairyringError
from fairyring.messages import encode
from fairyring.messages.forms import MEDIA, SMALL
from fairyring.service.refusals import STATUS, Refused, problem_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

BODY_SECONDS = 60.0  # that a body may take to arrive


async def body_of(request: "Request", most: int = SMALL) -> bytes:
    """The body of a request.

    Raises:
        Refused: it is longer than `most` bytes, which are not read, or does not arrive in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and declared.isascii() and int(declared[:20]) > most:
        raise Refused("too_large", f"{declared[:20]} bytes", f"at most {most}", "Send no more than that.")
    pieces: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                length += len(piece)
                if length > most:
                    raise Refused("too_large", "more bytes", f"at most {most}", "Send no more than that.")
                pieces.append(piece)
    except TimeoutError:
        raise Refused(
            "late", "a body that did not arrive", f"one within {BODY_SECONDS:g} s", "Try again."
        ) from None
    return b"".join(pieces)


def length_of(request: "Request", most: int) -> int:
    """Bytes that the body of a request may have, as far as it says."""
    declared = request.headers.get("content-length", "")
    return min(most, int(declared[:20])) if declared.isascii() and declared.isdecimal() else most


def target_of(request: "Request") -> str:
    """Path and query of a request, as they were sent."""
    path = request.scope.get("raw_path", b"").decode("latin-1") or request.url.path
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def answered(
    handler: Callable[["Request"], Awaitable["Response"]], count: Callable[[str], None]
) -> Callable[["Request"], Awaitable["Response"]]:
    """A handler whose errors become problems; `count` is told the kind of each."""
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response

    async def handle(request: "Request") -> "Response":
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except FairyringError as error:
            problem = problem_of(error)
            count(problem.kind)
            headers = {} if problem.retry is None else {"retry-after": f"{problem.retry:.0f}"}
            return Response(encode(problem), STATUS[problem.kind], headers, media_type=MEDIA)

    return handle
