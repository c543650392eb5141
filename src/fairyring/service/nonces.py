"""Whether a request was seen before, asked of the database for many requests at a time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

Remember = Callable[[Sequence[tuple[bytes, bytes, float]]], list[bool]]


class NonceKeeper:
    """Remembers nonces. Requests that come while a transaction is on its way share the next.

    Args:
        remember: notes `(key, nonce, until)` of many requests, and says of each whether it is new.
        executor: runs it.
    """

    def __init__(self, remember: Remember, executor: Executor) -> None:
        self._remember, self._executor = remember, executor
        self._waiting: list[tuple[tuple[bytes, bytes, float], asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def fresh(self, key: bytes, nonce: bytes, until: float) -> bool:
        """Whether a nonce is new; from now on it is not.

        Raises:
            StorageError: the database cannot be written.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(((key, nonce, until), future))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    found = await loop.run_in_executor(
                        self._executor, self._remember, [seen for seen, _ in batch]
                    )
                except Exception as error:  # whatever it is, who waits is told
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), fresh in zip(batch, found, strict=True):
                    if not future.done():
                        future.set_result(fresh)
        finally:
            self._writing = None
