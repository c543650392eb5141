"""A world as a page: an HTTP server for this machine, and a WebSocket through which a page looks and asks.

It listens on the loopback address unless told otherwise; `app` says who is let in. The world runs in a thread of its own
(`loop`), so that whatever a page does, or does not, the world keeps its pace.
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
    """Show a world as a page until it is interrupted (Ctrl-C, SIGTERM).

    Args:
        scene: the world; from now on only the server's thread uses it.
        host: the address to listen on, empty for all; another than a loopback address lets others on the network turn the knobs.
        port: its port; 0: one that is free.
        open_browser: whether to show the page in this machine's browser.
        on_start: called once with the page's address when it can be opened.

    Raises:
        EcologyError: the address cannot be listened on.
        MissingExtra: Starlette, uvicorn or websockets is not installed.
    """
    live = Live(scene, host=host, port=port)

    def started() -> None:
        if on_start is not None:
            on_start(live.url)
        if open_browser:
            # A browser may take seconds to start, or never return.
            threading.Thread(target=webbrowser.open, args=(live.url,), daemon=True).start()

    # Ctrl-C is how one is done looking, not an error.
    with suppress(KeyboardInterrupt):
        live.run(started)


class Live:
    """A world being served: `with Live(scene, port=0) as live` serves in a thread until the block ends.

    Attributes:
        url: where the page is.
        port: the port it listens on.

    Raises:
        EcologyError: the address cannot be listened on.
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
                "live page", given="no start within 30 s", expected="a server", do="Look at what was logged."
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _on_start(self) -> None:
        self._started()


def _uvicorn(app: Any) -> Any:
    """A uvicorn server of the application, which leaves logging as it is."""
    try:
        import uvicorn
        import websockets  # noqa: F401 uvicorn finds it by itself, and says late and little when it is not there
    except ImportError as error:
        raise MissingExtra(error.name or "uvicorn", extra="live", purpose="the live page") from error
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # A little more than a message may have: what is too long is refused in words, what is far too long ends it.
            ws_max_size=16 * LONGEST,
            # Packing costs more than the loopback device does.
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
            expected="an address of this machine and a port that is free",
            do="Give another port; 0 takes one that is free.",
        ) from error
