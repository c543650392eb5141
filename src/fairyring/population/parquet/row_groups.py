"""Row groups that are read when they are needed, or a little before, and kept while there is room."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial

import numpy as np

from fairyring.core.interrupts import Background, as_they_end, result_of

Columns = Mapping[str, np.ndarray]


class RowGroups:
    """A bounded number of row groups in memory, read by some threads.

    Args:
        read: `number -> rows` of a row group. It is called in several threads.
        sizes: bytes of the rows of each row group, in memory.
        room: bytes of all that are in memory or being read. One larger than that is there alone.
        threads: that read.

    Attributes:
        held: bytes of those that are in memory or being read.
        peak: the most that `held` has been.
    """

    def __init__(self, read: Callable[[int], Columns], sizes: np.ndarray, room: int, threads: int) -> None:
        self._read, self._sizes, self._room = read, sizes, room
        self._background = Background(threads)
        self._lock = threading.RLock()
        self._entries: OrderedDict[int, Future[Columns]] = OrderedDict()  # the last one used comes last
        self._unused: set[int] = set()  # read ahead, and not asked for yet
        self._expected: OrderedDict[int, None] = OrderedDict()  # a queue, of which any can be taken out
        self._wanted: Counter[int] = Counter()  # how many threads are waiting for one
        self.held = self.peak = 0

    def expect(self, numbers: Iterable[int]) -> None:
        """Read these next, in this order, as far as there is room, and further as they are used. What was expected before is forgotten."""
        with self._lock:
            self._expected = OrderedDict.fromkeys(numbers)
            self._unused &= self._expected.keys()
            self._read_ahead()

    def each(self, numbers: list[int]) -> Iterator[tuple[int, Columns]]:
        """These row groups, one after the other, while the next ones are read."""
        with self._lock:
            for number in reversed(numbers):
                self._expect_first(number)
            self._read_ahead()
        for number in numbers:
            yield number, self._get(number)

    def _expect_first(self, number: int) -> None:
        self._expected[number] = None
        self._expected.move_to_end(number, last=False)

    def _get(self, number: int) -> Columns:
        with self._lock:
            self._wanted[number] += 1
        try:
            return self._wait_for(number)
        finally:
            with self._lock:
                self._wanted -= Counter([number])

    def _wait_for(self, number: int) -> Columns:
        while True:
            found, others = self._found(number)
            if found is not None:
                break
            next(as_they_end(others), None)
        try:
            return result_of(found)
        except BaseException:
            with self._lock:
                if self._entries.get(number) is found:
                    self._drop(number)
            raise

    def _found(self, number: int) -> tuple["Future[Columns] | None", list["Future[Columns]"]]:
        """A row group that is there or being read; or None, and others that are being read and leave no room for it."""
        with self._lock:
            self._expected.pop(number, None)
            found = self._entries.get(number)
            if found is not None and found.done() and found.exception() is not None:
                self._drop(number)  # it failed when it was read ahead, perhaps long ago
                found = None
            if found is None:
                if not self._make_room(int(self._sizes[number]), at_once=True):
                    others = [entry for entry in self._entries.values() if not entry.done()]
                    if others:
                        return None, others
                found = self._start(number)
            self._unused.discard(number)
            self._entries.move_to_end(number)
            self._read_ahead()
            return found, []

    def _read_ahead(self) -> None:
        while self._expected:
            number = next(iter(self._expected))
            if number not in self._entries:
                if not self._make_room(int(self._sizes[number]), at_once=False):
                    return
                self._start(number)
            self._entries.move_to_end(number)
            self._unused.add(number)
            del self._expected[number]

    def _start(self, number: int) -> "Future[Columns]":
        self._entries[number] = future = self._background.submit(partial(self._read, number))
        self.held += int(self._sizes[number])
        self.peak = max(self.peak, self.held)
        return future

    def _make_room(self, size: int, *, at_once: bool) -> bool:
        """Whether there is room for so many bytes, after dropping what was used longest ago; if they are needed at once, also what was read ahead."""
        while self.held + size > self._room:
            number = self._dispensable(at_once=at_once)
            if number is None:
                return False
            self._drop(number)
        return True

    def _dispensable(self, *, at_once: bool) -> int | None:
        """A row group to drop, that is not being read and for which nobody waits: the one used longest ago; or the one that is needed last."""
        for number, entry in self._entries.items():
            if number not in self._unused and not self._wanted[number] and (entry.cancel() or entry.done()):
                return number
        for number in reversed(self._entries) if at_once else ():
            entry = self._entries[number]
            if number in self._unused and not self._wanted[number] and (entry.cancel() or entry.done()):
                self._expect_first(number)
                return number
        return None

    def _drop(self, number: int) -> None:
        del self._entries[number]
        self._unused.discard(number)
        self.held -= int(self._sizes[number])
