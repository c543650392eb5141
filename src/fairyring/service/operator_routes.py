"""The routes for operators, their pages, and machines that watch the service.

Everything is behind a login, but for the page itself and `/healthz` and `/readyz`. On a loopback address, as long as there are no operators,
whoever is on this machine is one. A change asked for by a browser needs the header of the dashboard, which another site's page cannot send.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from fairyring.core.errors import FairyringError, WireError
from fairyring.messages import read_manifest
from fairyring.messages.manifest import LARGEST
from fairyring.service.front import Front
from fairyring.service.http import body_of
from fairyring.service.limits import Rates
from fairyring.service.metrics import metrics_text
from fairyring.service.options import Source, Submission, Submitted
from fairyring.service.pages import HEADERS, INTENT, Viewer, contents
from fairyring.service.refusals import STATUS, Refused, problem_of
from fairyring.service.snapshots import Snapshots

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

COOKIE = "fairyring"
BLOB = 1 << 30  # bytes of a program
SUBMISSION = 64 << 20


@dataclass(frozen=True)
class Operating:
    """What operators work with.

    Attributes:
        snapshots: what they see.
        runs: the folder of the runs' folders.
        local: whether those on this machine are operators as long as there are no others.
        secure: whether the service is reached by TLS, so that cookies are sent over nothing else.
        hosts: the names under which the service is reached locally, without port.
        submitted: called when a run was submitted.
    """

    snapshots: Snapshots
    runs: Path
    local: bool
    secure: bool = False
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    submitted: Callable[[], None] = lambda: None


def operator_routes(front: Front, operating: Operating) -> "list[Route]":
    """The routes."""
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    storage, snapshots = front.storage, operating.snapshots
    logins = Rates(rate=0.2, burst=10.0)

    async def thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: function(*arguments))

    def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"} | (headers or {})
        return Response(msgspec.json.encode(value), status, headers, media_type="application/json")

    async def viewer(request: Request) -> Viewer:
        """Who asks; refused if nobody has signed in."""
        if token := _bearer(request) or request.cookies.get(COOKIE, ""):
            operator = await thread(storage.operators.by_token, token[:200])
            if operator is not None:
                return Viewer(name=operator.name, role=operator.role)
        if (
            operating.local
            and _from_here(request, operating.hosts)
            and not await thread(storage.operators.all)
        ):
            return Viewer(name="local", role="operator")
        raise Refused("unknown_device", "nobody who has signed in", "an operator", "Sign in.")

    async def operator(request: Request) -> Viewer:
        """Who asks for a change."""
        who = await viewer(request)
        # A browser adds other credentials than a bearer's token by itself, for whatever page asks.
        if not _bearer(request) and request.headers.get(INTENT[0]) not in (INTENT[1], "command"):
            raise Refused(
                "forbidden",
                "a change that no page of this service asked for",
                "one that it did",
                "Use the dashboard.",
            )
        if who.role != "operator":
            raise Refused("forbidden", "a viewer", "an operator", "Ask one.")
        return who

    # -- pages ------------------------------------------------------------------------------------------------

    files = contents()

    async def page(request: Request) -> Response:
        content, kind = files[request.url.path]
        return Response(content, headers=dict(HEADERS), media_type=kind)

    async def login(request: Request) -> Response:
        if request.client is not None:
            logins.check(request.client.host, front.now())
        if request.headers.get(INTENT[0]) not in (INTENT[1], "command"):
            raise Refused("forbidden", "a form of another site", "the dashboard's", "Use the dashboard.")
        try:
            given = msgspec.json.decode(await body_of(request), type=dict[str, str])
        except msgspec.DecodeError as error:
            raise Refused("malformed", f"{error}", "name and password", "Send JSON.") from None
        name, password = given.get("name", "")[:200], given.get("password", "")[:1000]
        token = await thread(storage.operators.login, name, password)
        if token is None:
            await thread(storage.audit.note, "service", "login refused", {"name": name})
            raise Refused("unknown_device", "another name or password", "those of an operator", "Try again.")
        role = await thread(storage.operators.by_token, token)
        answer = json(
            {"name": role.name, "role": role.role, "token": token}
            if request.headers.get(INTENT[0]) == "command"
            else {"name": role.name, "role": role.role}
        )
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=operating.secure)
        return answer

    async def logout(request: Request) -> Response:
        if request.headers.get(INTENT[0]) != INTENT[1]:
            raise Refused("forbidden", "a form of another site", "the dashboard's", "Use the dashboard.")
        await thread(storage.operators.logout, request.cookies.get(COOKIE, "")[:200])
        answer = json({})
        answer.delete_cookie(COOKIE)
        return answer

    async def me(request: Request) -> Response:
        return json(await viewer(request))

    async def snapshot(request: Request) -> Response:
        await viewer(request)
        return json(await thread(snapshots.snapshot))

    async def events(request: Request) -> Response:
        await viewer(request)

        async def stream() -> AsyncIterator[bytes]:
            last = b""
            for _ in range(3600):  # the page connects again
                try:
                    now = msgspec.json.encode(await thread(snapshots.snapshot))
                except FairyringError:  # the database cannot be reached
                    now = last
                yield b"event: snapshot\ndata: " + now + b"\n\n" if now != last else b": still here\n\n"
                last = now
                if await request.is_disconnected():
                    return
                await asyncio.sleep(1.0)

        return StreamingResponse(
            stream(), headers={"cache-control": "no-store"}, media_type="text/event-stream"
        )

    async def run_of(request: Request) -> Any:
        run = await thread(storage.runs.get, request.path_params["run"][:100])
        if run is None:
            raise Refused("not_found", "a run that there is not", "the id of one", "See the list of runs.")
        return run

    async def detail(request: Request) -> Response:
        await viewer(request)
        after = request.query_params.get("after", "0")
        return json(
            await thread(snapshots.detail, await run_of(request), int(after) if after.isdigit() else 0)
        )

    async def report(request: Request) -> Response:
        await viewer(request)
        path = operating.runs / (await run_of(request)).id / "report.html"
        if not path.is_file():
            raise Refused("not_found", "a run without a report", "one that is over", "Wait for its end.")
        return FileResponse(path, media_type="text/html")

    async def want(request: Request) -> Response:
        who = await operator(request)
        run = await run_of(request)
        try:
            what = msgspec.json.decode(await body_of(request), type=dict[str, str]).get("what", "")
        except msgspec.DecodeError as error:
            raise Refused("malformed", f"{error}", 'such as {"what": "pause"}', "Send JSON.") from None
        await thread(storage.runs.want, run.id, what, who.name)
        operating.submitted()
        return json({"run": run.id, "wanted": what})

    # -- commands ---------------------------------------------------------------------------------------------

    async def put_blob(request: Request) -> Response:
        await operator(request)
        data = await body_of(request, BLOB)
        digest = request.path_params["digest"]
        if hashlib.sha256(data).hexdigest() != digest:
            raise Refused("malformed", "other bytes", "those of this digest", "Send it again.")
        await thread(front.blobs.put, data)
        return json({})

    async def submit(request: Request) -> Response:
        who = await operator(request)
        body = await body_of(request, SUBMISSION + LARGEST)
        try:
            given = msgspec.msgpack.decode(body, type=Submission)
        except (msgspec.DecodeError, ValueError) as error:
            raise WireError(
                "submission", given=f"{error}", expected="a submission", do="Update fairyring."
            ) from None
        manifest = read_manifest(given.manifest)
        missing = [
            name for name, blob in manifest.programs.items() if not await thread(front.blobs.exists, blob)
        ]
        if missing:
            raise Refused(
                "not_found",
                f"no program for {missing[0]}",
                "all programs of the manifest",
                "Send them first.",
            )
        for name in given.files:
            _check_name(name)
        digest = await thread(front.blobs.put, given.manifest)
        source = await thread(front.blobs.put, msgspec.msgpack.encode(Source(given.files, given.entry)))
        options = msgspec.structs.replace(given.options, source=source.hex())

        def add() -> str:
            return storage.runs.submit(
                manifest.name, digest, manifest.author, options.plain(), by=who.name, request=given.request
            )

        run = await thread(add)
        operating.submitted()
        return json(Submitted(run))

    async def tokens(request: Request) -> Response:
        who = await operator(request)
        asked = await _json(request, dict[str, float])
        quota, seconds = int(asked.get("quota", 1)), float(asked.get("seconds", 86400.0))

        def create() -> str:
            token = storage.tokens.create(quota, front.now() + seconds)
            storage.audit.note(who.name, "create token", {"quota": quota, "seconds": seconds})
            return token

        return json({"token": await thread(create), "service": front.identity.public.hex()})

    async def allow(request: Request) -> Response:
        who = await operator(request)
        keys = [bytes.fromhex(key) for key in await _json(request, list[str])]

        def add() -> int:
            new = storage.devices.allow(keys)
            storage.audit.note(who.name, "allow devices", {"devices": len(keys), "new": new})
            return new

        return json({"new": await thread(add)})

    async def devices(request: Request) -> Response:
        await viewer(request)
        found = await thread(storage.devices.all)
        return json([{**device._asdict(), "key": device.key.hex()} for device in found])

    async def revoke(request: Request) -> Response:
        who = await operator(request)
        key = request.path_params["key"]
        reason = (await _json(request, dict[str, str])).get("reason", "")

        def bar() -> bool:
            known = storage.devices.revoke(bytes.fromhex(key), reason)
            storage.audit.note(who.name, "revoke", {"device": key, "reason": reason})
            return known

        return json({"revoked": await thread(bar)})

    async def audit(request: Request) -> Response:
        await viewer(request)
        return json(
            [noted._asdict() | {"hash": noted.hash.hex()} for noted in await thread(storage.audit.read, 500)]
        )

    async def log(request: Request) -> Response:
        await viewer(request)
        path = operating.runs / f"{(await run_of(request)).id}.log"
        return PlainTextResponse(await thread(_tail, path))

    # -- machines ---------------------------------------------------------------------------------------------

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        try:
            await thread(storage.devices.count)
        except FairyringError:
            return PlainTextResponse("the database cannot be reached\n", 503)
        return PlainTextResponse("ok\n")

    async def metrics(request: Request) -> Response:
        await viewer(request)
        text = await thread(lambda: metrics_text(snapshots.snapshot()))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    def answered(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except (FairyringError, ValueError, ArithmeticError) as error:
                if not isinstance(error, FairyringError):
                    error = Refused(
                        "malformed", f"{error}"[:200], "a request of this version", "See the docs."
                    )
                problem = problem_of(error)
                told = isinstance(error, Refused | WireError) or problem.kind == "busy"
                kind = problem.kind if told else "late"
                front.count_refused(kind)
                fields = {
                    "what": error.what,
                    "given": f"{error.given}",
                    "expected": error.expected,
                    "do": error.do,
                }
                return json({"error": fields}, STATUS[kind])

        return handle

    routes = [
        ("/v1/login", login, "POST"),
        ("/v1/logout", logout, "POST"),
        ("/v1/me", me, "GET"),
        ("/v1/snapshot", snapshot, "GET"),
        ("/v1/events", events, "GET"),
        ("/v1/runs", submit, "POST"),
        ("/v1/runs/{run}", detail, "GET"),
        ("/v1/runs/{run}/report", report, "GET"),
        ("/v1/runs/{run}/log", log, "GET"),
        ("/v1/runs/{run}/want", want, "POST"),
        ("/v1/blobs/{digest}", put_blob, "PUT"),
        ("/v1/tokens", tokens, "POST"),
        ("/v1/devices", devices, "GET"),
        ("/v1/devices", allow, "POST"),
        ("/v1/devices/{key}/revoke", revoke, "POST"),
        ("/v1/audit", audit, "GET"),
        ("/healthz", healthz, "GET"),
        ("/readyz", readyz, "GET"),
        ("/metrics", metrics, "GET"),
    ]
    pages = [Route(path, page, methods=["GET"]) for path in files]
    return [*pages, *(Route(path, answered(handler), methods=[method]) for path, handler, method in routes)]


async def _json(request: "Request", kind: Any) -> Any:
    try:
        return msgspec.json.decode(await body_of(request, 8 << 20), type=kind)
    except msgspec.DecodeError as error:
        raise Refused("malformed", f"{error}"[:200], "JSON of another form", "See the docs.") from None


def _check_name(name: str) -> None:
    """Raise `Refused` for a file that would not lie within a plan's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in name:
        raise Refused(
            "malformed", f"a file {name[:100]!r}", "a path within the plan's folder", "Submit again."
        )


def _bearer(request: "Request") -> str:
    """The token that a program sends; empty for a browser."""
    given = request.headers.get("authorization", "")
    return given[7:] if given.startswith("Bearer ") else ""


def _from_here(request: "Request", hosts: tuple[str, ...]) -> bool:
    """Whether a request comes from this machine, and was meant for it: a page whose name leads here is not."""
    if request.client is None:
        return False
    try:
        here = ip_address(request.client.host).is_loopback
    except ValueError:
        here = False
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return here and name in hosts


def _tail(path: Path, most: int = 200_000) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read().decode(errors="replace")
