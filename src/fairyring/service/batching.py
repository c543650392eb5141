"""Questions to the database, asked for many requests at a time: whether a nonce is new, how a device stands."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batches(Generic[Question, Answer]):
    """Asks questions in batches. Those that come while a transaction is on its way share the next.

    Args:
        answer: of many questions, in their order.
        executor: runs it.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Answer]], executor: Executor) -> None:
        self._answer, self._executor = answer, executor
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer to a question.

        Raises:
            StorageError: the database cannot be reached or written.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await future

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await loop.run_in_executor(
                        self._executor, self._answer, [question for question, _ in batch]
                    )
                except Exception as error:  # whatever it is, who waits is told
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._asking = None
