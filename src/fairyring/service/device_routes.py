"""The routes for devices: see `fairyring.messages.forms`."""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fairyring.messages import CheckIn, Enrol, Leave, Signature, decode, encode
from fairyring.messages.forms import MEDIA
from fairyring.messages.signing import KEY, NONCE, SIGNATURE, TIME
from fairyring.service.front import Front
from fairyring.service.http import answered, body_of, length_of, target_of
from fairyring.service.refusals import Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PASSED = "fairyring-passed"  # the header of a request that one process passes on to another
CHANGE = "fairyring-change"  # the header of an answer that is a change from the model that was named
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
_HEX = re.compile(r"[0-9a-f]{64}")
_SESSION = re.compile(r"[0-9a-f]{32}")

Forward = Callable[["Request", str, bytes], Awaitable["Response"]]


def device_routes(front: Front, forward: Forward | None = None) -> "list[Route]":
    """The routes.

    Args:
        front: serves them.
        forward: passes a request on to another process of the service, by its address; None if there is only this one.
    """
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    def form(value: Any) -> Response:
        front.served += 1
        return Response(encode(value), media_type=MEDIA)

    async def about(request: Request) -> Response:
        return form(front.about())

    async def signed(request: Request, body: bytes, *, enrolled: bool = True) -> bytes:
        return await front.sender(
            signature_of(request), request.method, target_of(request), body, enrolled=enrolled
        )

    async def elsewhere(request: Request, session: bytes) -> str:
        """The address of the process that serves a session; empty if this one is to answer, as it is after one pass."""
        return "" if PASSED in request.headers else await front.holder(session)

    async def enrol(request: Request) -> Response:
        _limit_address(front, request)
        body = await body_of(request)
        key = await signed(request, body, enrolled=False)
        return form(await front.enrol(key, decode(body, Enrol)))

    async def check_in(request: Request) -> Response:
        _limit_address(front, request)
        body = await body_of(request)
        signature = signature_of(request)
        if forward is not None and PASSED not in request.headers:
            address = await front.invited_elsewhere(signature.key)
            if address:
                signature.check(front.identity.public, request.method, target_of(request), body, front.now())
                return await forward(request, address, body)
        key = await signed(request, body)
        return form(await front.check_in(key, decode(body, CheckIn)))

    async def exchange(request: Request) -> Response:
        session = _session_of(request)
        _limit_address(front, request)
        # Long bodies are read of those only who may send one, or say so.
        await front.check_standing(signature_of(request).key)
        longest = await front.longest(session)
        body, address, answer = b"", "", None
        async with front.room.of(length_of(request, longest)):
            body = await body_of(request, longest)
            address = await elsewhere(request, session) if forward is not None else ""
            if not address:
                key = await signed(request, body)
                answer = await front.take(key, session, body, request.query_params.get("seen", "")[:40])
                body = b""  # the answer is held, and thousands wait at a time
        if forward is not None and address:
            signature_of(request).check(
                front.identity.public, request.method, target_of(request), body, front.now()
            )
            return await forward(request, address, body)
        assert answer is not None, "what is not forwarded is taken"
        return form(await answer())

    async def leave(request: Request) -> Response:
        session = _session_of(request)
        _limit_address(front, request)
        body = await body_of(request)
        if forward is not None and (address := await elsewhere(request, session)):
            signature_of(request).check(
                front.identity.public, request.method, target_of(request), body, front.now()
            )
            return await forward(request, address, body)
        key = await signed(request, body)
        return form(await front.leave(key, session, decode(body, Leave)))

    async def blob(request: Request) -> Response:
        _limit_address(front, request)
        await signed(request, b"")
        name = request.path_params["digest"]
        if not _HEX.fullmatch(name):
            raise Refused("not_found", "no digest", "64 hexadecimal digits", "Ask for what a manifest names.")
        wanted = bytes.fromhex(name)
        headers = {"accept-ranges": "bytes", "etag": f'"{name}"'}
        change = front.change(request.query_params.get("from", ""), name)
        if change is not None:
            wanted, headers[CHANGE] = change, request.query_params["from"]
        status, data, extra = await front.part(wanted, _range_of(request))
        front.served += 1
        return Response(data, status, headers | extra, media_type="application/octet-stream")

    paths = [
        ("/v1/about", about, "GET"),
        ("/v1/enrol", enrol, "POST"),
        ("/v1/check-in", check_in, "POST"),
        ("/v1/sessions/{session}", exchange, "POST"),
        ("/v1/sessions/{session}/leave", leave, "POST"),
        ("/v1/blobs/{digest}", blob, "GET"),
    ]
    count = front.count_refused
    return [Route(path, answered(handler, count), methods=[method]) for path, handler, method in paths]


def signature_of(request: "Request") -> Signature:
    """The signature in a request's headers.

    Raises:
        WireError: there is none.
    """
    headers = request.headers
    return Signature.read(headers.get(KEY), headers.get(TIME), headers.get(NONCE), headers.get(SIGNATURE))


def _limit_address(front: Front, request: "Request") -> None:
    if request.client is not None:
        front.addresses.check(request.client.host, front.now())


def _session_of(request: "Request") -> bytes:
    text = request.path_params["session"]
    if not _SESSION.fullmatch(text):
        raise Refused("not_found", "no session", "the id of one", "Check in.")
    return bytes.fromhex(text)


def _range_of(request: "Request") -> tuple[int, int | None] | None:
    """The range of bytes that is asked for; None for all."""
    text = request.headers.get("range")
    match = _RANGE.fullmatch(text) if text is not None else None
    if match is None:
        return None
    return int(match[1]), int(match[2]) + 1 if match[2] else None
