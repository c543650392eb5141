"""A session as devices meet it: messages are taken in batches, answers are held until there is one, and phases end in time.

What is accepted is stored before it is acknowledged: a batch of messages is one transaction of the log. A phase ends when all that can come
has come, or at its deadline.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Protocol

from fairyring.core.errors import FairyringError, MessageRefused, SessionAborted
from fairyring.messages import Turn
from fairyring.messages.manifest import Manifest
from fairyring.service.facts import SessionFacts
from fairyring.service.masked import MaskedSum
from fairyring.service.sums import ABORTED, DONE, PlainSum, Received, ReportLog, Sum, Summed

BATCH = 64  # messages of one transaction
HELD = 20.0  # seconds that a device waits for an answer before it asks again
FIRST = ("advertising", "reporting")  # the phases that wait for training
AGAIN = Turn("", (), "", 0.5)  # nobody serves the session at this moment


class BatchedLog(ReportLog, Protocol):
    """A log that stores many records as one."""

    def batch(self) -> AbstractContextManager[None]:
        """What is appended within is stored when it ends."""
        ...


class Ended(Protocol):
    """Stores how a session ended."""

    def __call__(self, hosted: "HostedSession", summed: Summed | None, reason: str) -> None: ...


class HostedSession:
    """A session that this process serves.

    Args:
        session: its id.
        run: id of its run.
        facts: of it.
        manifest: of its plan.
        log: of what was accepted; a session that another process served goes on from there.
        ended: called in a thread when the session has a sum, or will have none: why.
        executor: computes what takes long.
        now: a monotonic clock, in seconds.

    Attributes:
        funnel: how many devices were invited, and sent the message of each phase.
        failures: how many devices left, by their reason.
        refused: how many messages were refused.
    """

    def __init__(
        self,
        session: bytes,
        run: str,
        facts: SessionFacts,
        manifest: Manifest,
        log: BatchedLog,
        ended: Ended,
        executor: Executor,
        now: Callable[[], float],
    ) -> None:
        self.session, self.run, self.facts, self.manifest = session, run, facts, manifest
        self._log, self._ended, self._executor, self._now = log, ended, executor, now
        self.sum: Sum = (
            PlainSum(facts, manifest, log) if manifest.terms is None else MaskedSum(facts, manifest, log)
        )
        self.places = facts.places
        self.since = now()
        self.over = ""
        self.reason = ""
        self.funnel: dict[str, int] = {"invited": len(self.places)}
        self._came: set[bytes] = set()
        self.failures: Counter[str] = Counter()
        self.refused = 0
        self._inbox: list[tuple[Received | None, asyncio.Future[None] | None]] = []
        self._turn = asyncio.Lock()
        self._changed = asyncio.Condition()
        # What another process had decided, and could not say any more.
        self._decided = self.sum.phase in (DONE, ABORTED)

    @property
    def phase(self) -> str:
        """What the session waits for."""
        return self.sum.phase

    @property
    def deadline(self) -> float:
        """When the phase ends, on the clock."""
        seconds = self.facts.seconds if self.phase in FIRST else self.facts.stage_seconds
        return self.since + seconds

    def wants(self, device: bytes) -> bool:
        """Whether a device may still join: it is invited, has not left, and the session waits for reports or goes on with it."""
        return not self.over and self.sum.takes(device)

    async def take(self, device: bytes, data: bytes) -> None:
        """Take a message of a device. It is stored when this returns; nothing keeps its bytes in memory then.

        Raises:
            MessageRefused: the message does not count.
        """
        if not self.over:
            await self._submit(Received(device, data))

    async def turn(self, device: bytes, seen: str) -> Turn:
        """What a device does next, once there is something new. One that asks without a message has none in this phase.

        Args:
            device: that asks.
            seen: the phase that it was told of last.

        Where its message could not be stored, or another process goes on with the session, the answer names no phase: it sends the same again.
        """
        if not self.over and seen == self.phase:
            self.sum.ready(device)
            await self._progress()
        until = self._now() + HELD
        async with self._changed:
            while not self.over and self.phase == seen:
                left = until - self._now()
                if left <= 0:
                    break
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    break
        if self.over == "lost":
            return AGAIN
        if self.over:
            return Turn(self.phase, (), self.over)
        if not self.sum.takes(device):
            return Turn(self.phase, (), "left")
        return Turn(self.phase, self.sum.messages(device))

    def came(self, device: bytes) -> None:
        """Count a device that was told of the session; once, however often it asks."""
        self._came.add(device)
        self.funnel["checked_in"] = len(self._came)

    async def leave(self, device: bytes, reason: str) -> None:
        """A device leaves, for a reason that is counted."""
        if not self.over and self.sum.takes(device):
            self.failures[reason] += 1
            self.sum.leave(device)
            await self._progress()

    async def tick(self) -> None:
        """End the phase if its time is over, or if nothing more can come."""
        if self.over or not (self._decided or self.sum.complete or self._now() >= self.deadline):
            return
        async with self._turn:
            if self.over:
                return
            if self._decided:
                why = (
                    ""
                    if self.sum.summed is not None
                    else "the sum was given up before another process took it over"
                )
                await self._end(self.sum.summed, why)
            elif self.sum.complete or self._now() >= self.deadline:
                await self._advance()

    async def close(self, over: str, reason: str) -> None:
        """Tell all devices that the session is over here: `aborted` or `summed` by somebody else, or `lost` to another process."""
        if not self.over:
            self.over, self.reason = over, reason
        await self._tell()

    # -- one batch after another ------------------------------------------------------------------------------

    async def _submit(self, message: Received) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.append((message, future))
        await self._progress()
        await future

    async def _progress(self) -> None:
        """Take what has come, and end the phase if nothing else can come. Whoever comes first does it for all."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            while self._inbox:
                batch, self._inbox = self._inbox[:BATCH], self._inbox[BATCH:]
                messages = [message for message, _ in batch if message is not None]
                try:
                    outcomes = await loop.run_in_executor(self._executor, self._take, messages)
                except (
                    Exception
                ) as error:  # nothing of the batch is acknowledged: whoever sent it sends it again
                    outcomes = [None] * len(messages)
                    self.over, self.reason = "lost", f"{error}"
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if future is None or future.done():
                        continue
                    if outcome is None:
                        future.set_result(None)
                    else:
                        future.set_exception(outcome)
            if not self.over and self.sum.complete:
                await self._advance()
        if self.over == "lost":
            await self._tell()

    def _take(self, messages: list[Received]) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        with self._log.batch():
            for message in messages:
                try:
                    if self.over:
                        raise SessionAborted(
                            self.phase, given="a message", expected="a session that goes on", do="Start anew."
                        )
                    self.sum.take(message)
                    outcomes.append(None)
                except (MessageRefused, SessionAborted) as error:
                    self.refused += 1
                    outcomes.append(error)
        return outcomes

    async def _advance(self) -> None:
        """End the phase, and every phase after it that has nothing to wait for."""
        loop = asyncio.get_running_loop()
        while True:
            self.funnel[self.phase] = self.sum.counts[0]
            try:
                await loop.run_in_executor(self._executor, self.sum.advance)
            except SessionAborted as error:
                await self._end(None, f"{error.phase}: {error.given}; expected {error.expected}")
                return
            except Exception as error:  # the log could not be written: another process may own the session
                self.over, self.reason = "lost", f"{error}"
                await self._tell()
                return
            self.since = self._now()
            if self.sum.summed is not None:
                await self._end(self.sum.summed, "")
                return
            await self._tell()
            if not self.sum.complete:
                return

    async def _end(self, summed: Summed | None, reason: str) -> None:
        loop = asyncio.get_running_loop()
        self.funnel["summed"] = len(summed.devices) if summed is not None else 0
        if self.sum.named:
            self.failures["named_for_wrong_shares"] += self.sum.named
        try:
            await loop.run_in_executor(self._executor, self._ended, self, summed, reason)
        except FairyringError as error:
            self.over, self.reason = "lost", f"{error}"
        else:
            self.over, self.reason = ("summed" if summed is not None else "aborted"), reason
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
