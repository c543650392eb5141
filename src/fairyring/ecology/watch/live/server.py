"""Serving a world as a page: an HTTP server with a WebSocket for frames and requests.

It listens on the loopback address by default; `app` checks who may connect. The world runs in its own thread (`loop`), so no page
can slow it down.
"""

import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fairyring.core.errors import EcologyError, MissingExtra
from fairyring.ecology.watch.live.app import application
from fairyring.ecology.watch.live.loop import Loop
from fairyring.ecology.watch.live.messages import LONGEST
from fairyring.ecology.watch.scene import Scene


def serve(
    scene: Scene,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    open_browser: bool = True,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve a world as a page until it is interrupted (Ctrl-C, SIGTERM).

    Args:
        scene: the world; from now on only the server uses it.
        host: address to listen on, empty for all; with any but a loopback address others on the network can turn the knobs.
        port: to listen on; 0 for any free one.
        open_browser: whether to open the page in the browser of this machine.
        on_start: called once with the address of the page when it can be opened.

    Raises:
        EcologyError: the server cannot listen on the address.
        MissingExtra: Starlette, uvicorn or websockets is not installed.
    """
    live = Live(scene, host=host, port=port)

    def started() -> None:
        if on_start is not None:
            on_start(live.url)
        if open_browser:
            # In a thread, since a browser may take seconds to start, or never return.
            threading.Thread(target=webbrowser.open, args=(live.url,), daemon=True).start()

    # Ctrl-C is the normal way to stop.
    with suppress(KeyboardInterrupt):
        live.run(started)


class Live:
    """A server for a world: `with Live(scene, port=0) as live` serves in a thread until the block ends.

    Attributes:
        url: of the page.
        port: that the server listens on.

    Raises:
        EcologyError: the server cannot listen on the address.
        MissingExtra: Starlette, uvicorn or websockets is not installed.
    """

    def __init__(self, scene: Scene, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._loop = Loop(scene)
        self._started: Callable[[], None] = lambda: None
        app = application(self._loop, scene, host, self._on_start)
        self._server = _uvicorn(app)
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"
        self._thread: threading.Thread | None = None

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve in this thread until interrupted; `started` is called when the page can be opened."""
        self._started = started
        try:
            with self._loop:
                self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def __enter__(self) -> "Live":
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self.run, args=(ready.set,), name="fairyring-server", daemon=True
        )
        self._thread.start()
        if not ready.wait(30):
            raise EcologyError(
                "live page", given="no start within 30 s", expected="a server", do="See the log."
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _on_start(self) -> None:
        self._started()


def _uvicorn(app: Any) -> Any:
    """A uvicorn server for the application that leaves logging unchanged."""
    try:
        import uvicorn
        import websockets  # noqa: F401 uvicorn imports it itself, but reports a missing one late
    except ImportError as error:
        raise MissingExtra(error.name or "uvicorn", extra="live", purpose="the live page") from error
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Above the limit for messages: a message that is too long gets an error, one that is far too long disconnects.
            ws_max_size=16 * LONGEST,
            # Compression costs more than the loopback device does.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    except (OSError, OverflowError) as error:
        raise EcologyError(
            "live page",
            given=f"{host} port {port}: {getattr(error, 'strerror', None) or error}",
            expected="an address of this machine and a free port",
            do="Choose another port, or 0 for any free one.",
        ) from error
