"""Connections on which nothing comes: they are closed, so that they do not use up what the process may open."""

from typing import Any

HEAD_SECONDS = 20.0  # that the head of a request may take to arrive


def impatient() -> type[Any]:
    """The protocol of a connection that is closed where no request arrives, or only a part of its head."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol  # of one of two parsers, whichever is installed

    class Impatient(base):
        _before: Any = None
        _waits = 0
        _looks: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._look_later()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._looks is not None:
                self._looks.cancel()
            super().connection_lost(exc)

        def _look_later(self) -> None:
            self._looks = self.loop.call_later(HEAD_SECONDS / 2, self._look)

        def _look(self) -> None:
            cycle = self.cycle
            # While a request is answered, or one that was is followed by none, uvicorn has clocks of its own.
            between = self.timeout_keep_alive_task is not None
            waits = not between and (cycle is None or cycle.response_complete)
            self._waits = self._waits + 1 if waits and cycle is self._before else int(waits)
            self._before = cycle
            if self._waits >= 2 and not self.transport.is_closing():
                self.transport.close()
            else:
                self._look_later()

    return Impatient
