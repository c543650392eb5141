"""Room for what is in memory at a time: who comes when there is none waits."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SMALL = 64 << 10  # bytes that nobody waits for


class Room:
    """So many bytes, for the bodies of requests.

    Args:
        most: bytes at a time. What is larger than that has all of it to itself.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes, in the order in which it is asked for."""
        if size <= SMALL:
            yield
            return
        size = min(size, self._most)
        if self._waiting or size > self._left:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._give(size)
                raise
        else:
            self._left -= size
        try:
            yield
        finally:
            self._give(size)

    def _give(self, size: int) -> None:
        self._left += size
        while self._waiting:
            wanted, future = self._waiting[0]
            if not future.done():
                if wanted > self._left:
                    return
                self._left -= wanted
                future.set_result(None)
            self._waiting.popleft()
