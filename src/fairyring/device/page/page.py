"""Serving the owner's page on the loopback address with the standard library.

Programs of others may run on the same machine, and pages of others in the same browser. So the address has a secret in it, without which
nothing is answered; a request is answered only under a name of this machine (`Host`, against DNS rebinding); and what changes something
must come from this page (`Origin`, and a header that no other page may send).
"""

import hmac
import ipaddress
import json
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import msgspec

from fairyring.core.errors import FairyringError
from fairyring.device.page.owner_state import OwnerState

_FILES = MappingProxyType(
    {
        "": ("page.html", "text/html; charset=utf-8"),
        "page.css": ("page.css", "text/css; charset=utf-8"),
        "page.js": ("page.js", "text/javascript; charset=utf-8"),
    }
)
_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
_INTENT = ("Fairyring-Intent", "owner")
_LONGEST = 4096  # bytes of what is asked for
_AT_ONCE = 8  # requests
_PATIENCE = 10.0  # seconds in which a request must have come


class Actions(Protocol):
    """What the owner may do. Both are called in a thread of the page."""

    def switch(self, on: bool) -> None:
        """Let the device take part; or stop it, also what it is doing now: while it is off, nothing leaves it."""
        ...

    def forget(self, source: str | None) -> int:
        """Delete the examples of a source, or all of them; returns how many they were."""
        ...


class _Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    on: bool


class _Forget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str | None


class OwnerPage:
    """The page of a device: `with OwnerPage(state, actions) as page` serves it at `page.url` until the block ends.

    Args:
        state: what is to be shown now. It is called in threads of the page, about every two seconds while a page is open.
        actions: what the owner may do.
        port: to listen on, on 127.0.0.1; 0 for any free one.

    Attributes:
        url: of the page, with the secret in it: whoever has it may do what the owner may. A new one is made every time.

    Raises:
        FairyringError: the port is taken.
    """

    def __init__(self, state: Callable[[], OwnerState], actions: Actions, port: int = 0) -> None:
        self._state, self._actions = state, actions
        self._token = secrets.token_urlsafe(24)
        here = files("fairyring.device.page")
        self._contents = {path: ((here / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        page = self

        class Handler(_Handler):
            serves = page

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise FairyringError(
                "the owner's page",
                given=f"port {port}: {getattr(error, 'strerror', None) or error}",
                expected="a free port of this machine",
                do="Choose another port, or 0 for any free one.",
            ) from error
        self.url = f"http://127.0.0.1:{self._server.server_port}/{self._token}/"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="fairyring-owner-page", daemon=True
        )  # fmt: skip
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def place(self, target: str) -> str | None:
        """What a request's target names under the secret; None if the secret is not in it."""
        given, slash, rest = target.partition("?")[0].removeprefix("/").partition("/")
        right = hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
        return rest if right and slash else None

    def show(self, place: str) -> tuple[bytes, str] | None:
        """The bytes and the media type of a file, or of the state."""
        if place == "state":
            return msgspec.json.encode(self._state()), "application/json"
        return self._contents.get(place)

    def act(self, place: str, body: bytes) -> bytes | None:
        """Do what was asked for; the answer, or None if there is no such thing.

        Raises:
            msgspec.DecodeError: the body does not say what.
        """
        if place == "switch":
            self._actions.switch(msgspec.json.decode(body, type=_Switch).on)
            return b"{}"
        if place == "forget":
            gone = self._actions.forget(msgspec.json.decode(body, type=_Forget).source)
            return json.dumps({"forgotten": gone}).encode()
        return None


class _Server(ThreadingHTTPServer):
    """Bounded: a program that opens connections and says nothing holds a few threads for a few seconds."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(timeout=_PATIENCE):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that leaves while it is answered is nobody's concern, and a traceback would have its address in it."""


class _Handler(BaseHTTPRequestHandler):
    serves: OwnerPage
    timeout = _PATIENCE
    server_version = "fairyring"
    sys_version = ""

    def do_GET(self) -> None:
        place = self._place()
        if place is None:
            return
        try:
            found = self.serves.show(place)
        except FairyringError as error:
            return self._refuse(503, error)
        if found is None:
            return self._plain(404, "There is nothing here.")
        self._answer(200, *found)

    def do_POST(self) -> None:
        place = self._place()
        if place is None:
            return
        ours = self.headers.get("Origin") == f"http://{self.headers.get('Host')}"
        if not ours or self.headers.get(_INTENT[0]) != _INTENT[1]:
            return self._plain(403, "Only the owner's page may ask for that.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 6 and int(length) <= _LONGEST):
            return self._plain(413, f"What is asked for has at most {_LONGEST} bytes.")
        try:
            answer = self.serves.act(place, self.rfile.read(int(length)))
        except msgspec.DecodeError:
            return self._plain(400, "That is not understood.")
        except FairyringError as error:
            return self._refuse(409, error)
        if answer is None:
            return self._plain(404, "There is nothing here.")
        self._answer(200, answer, "application/json")

    def _place(self) -> str | None:
        """What is asked for; None if it was refused."""
        if not _is_loopback(self.headers.get("Host", ""), self.server.server_port):  # pyright: ignore[reportAttributeAccessIssue]
            self._plain(421, "This page is not served under that name.")
            return None
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers.get('Host')}":
            self._plain(403, "Only the owner's page may ask for that.")
            return None
        place = self.serves.place(self.path)
        if place is None:
            self._plain(404, "There is nothing here. The address of the page is: fairyring device page")
        return place

    def _refuse(self, status: int, error: FairyringError) -> None:
        told = {"what": error.what, "given": str(error.given), "expected": error.expected, "do": error.do}
        self._answer(status, json.dumps({"error": told}).encode(), "application/json")

    def _plain(self, status: int, words: str) -> None:
        self._answer(status, f"{words}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address has the secret in it."""


def _is_loopback(host: str, port: int) -> bool:
    """Whether a `Host` header names this machine and this port, in a way that no foreign name server controls."""
    try:
        given = urlsplit(f"//{host}")
        name, at = given.hostname, given.port
        here = name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False
    return here and at == port and given.username is None and not given.path
