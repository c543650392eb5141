"""Ctrl-C while a compiler, or other code that is not Python, is at work.

Python raises `KeyboardInterrupt` between two of its own instructions, in the main thread. While that thread is within C++ for seconds, as
it is when XLA compiles, nothing is raised. So the main thread leaves such work to other threads, and waits for them: a wait can be
interrupted.
"""

import atexit
import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

Result = TypeVar("Result")

STACK = 16 << 20  # bytes: a compiler needs as much as the main thread has, and other threads may have 2 MiB
# Seconds. On Windows, and where a library has asked the system to go on with what a signal interrupts, a wait is not interrupted, but ends.
POLL = 0.2
_left: list[threading.Thread] = []  # still at work, and nobody waits for them
_leaving, _starting = threading.Lock(), threading.Lock()
_backgrounds: "WeakSet[Background]" = WeakSet()
_is_ending = threading.Event()


def interruptible(*calls: Callable[[], Result]) -> list[Result]:
    """What these calls return, each made in a thread of its own.

    They should spend their time outside of Python, without its global lock. Settings of the calling thread, such as those that JAX has
    for each thread, do not hold in theirs. Elsewhere than in the main thread nothing is interrupted: there a single call is just made.

    Raises:
        KeyboardInterrupt: at once. The calls go on by themselves, and what they return is dropped.
        Exception: what the first call that failed raises, once all have ended.
    """
    if len(calls) == 1 and threading.current_thread() is not threading.main_thread():
        return [calls[0]()]
    results: list[Future[Result]] = [Future() for _ in calls]
    threads = [
        threading.Thread(target=_make, args=each, daemon=True) for each in zip(calls, results, strict=True)
    ]
    try:
        _start(threads)
        deque(as_they_end(results), 0)
    except BaseException:
        _leave(threads)
        raise
    return [result.result() for result in results]


def meanwhile(call: Callable[[], object]) -> None:
    """Begin a call in a thread of its own, and go on. What it raises is dropped; the end of Python waits for it."""
    thread = threading.Thread(target=_make, args=(call, Future()), daemon=True)
    _start([thread])
    _leave([thread])


def as_they_end(results: Iterable["Future[Result]"]) -> Iterator["Future[Result]"]:
    """These results in the order in which they are there; the wait for them can be interrupted.

    Raises:
        KeyboardInterrupt: within `POLL` seconds of it.
    """
    waiting = set(results)
    while waiting:
        done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
        yield from done


def result_of(result: "Future[Result]") -> Result:
    """What a call returns, after a wait that can be interrupted.

    Raises:
        KeyboardInterrupt: within `POLL` seconds of it.
        Exception: what the call raises.
    """
    deque(as_they_end([result]), 0)
    return result.result()


@contextmanager
def interruptible_pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that is waited for at the end, but not after a `KeyboardInterrupt`: then what is running goes on by itself.

    Whoever is interrupted tells its jobs to stop. Until they do, they may hold what they need.
    """
    threads: list[threading.Thread] = []
    pool = ThreadPoolExecutor(size, initializer=lambda: threads.append(threading.current_thread()))
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        _leave(threads)
        raise
    except BaseException:
        pool.shutdown()
        raise
    pool.shutdown()


class Background:
    """Calls in other threads, some at a time, the others in the order in which they were given. They are there for somebody who does not wait for all of them.

    The end of Python waits for those that have begun, but not after a `KeyboardInterrupt`.

    Args:
        size: how many at a time.
    """

    def __init__(self, size: int) -> None:
        self._size, self._running, self._lock = size, 0, threading.Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        _backgrounds.add(self)

    def submit(self, call: Callable[[], Result]) -> "Future[Result]":
        """What a call will return. One that has not begun can be cancelled."""
        result: Future[Result] = Future()
        with self._lock:
            self._waiting.append((call, result))
        self._begin()
        return result

    def cancel(self) -> None:
        """Cancel all that has not begun."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for _, result in waiting:
            result.cancel()

    def _begin(self) -> None:
        with self._lock:
            while self._running < self._size and self._waiting and not _is_ending.is_set():
                call, result = self._waiting.popleft()
                if result.set_running_or_notify_cancel():
                    self._running += 1
                    thread = threading.Thread(target=self._make, args=(call, result), daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:  # no thread more
                        self._running -= 1
                        result.set_exception(error)
                    else:
                        _leave([thread])

    def _make(self, call: Callable[[], Any], result: "Future[Any]") -> None:
        _make(call, result)
        with self._lock:
            self._running -= 1
        self._begin()


def at_work() -> bool:
    """Whether calls still go on that nobody waits for, such as those of an interrupted caller."""
    return any(thread.is_alive() for thread in _left)


def leaves_work() -> bool:
    """Whether Python, which is about to end, does not wait for what goes on: after a `KeyboardInterrupt` that the program has not caught."""
    # Where an error that was shown has not ended the program, it says nothing.
    interactive = hasattr(sys, "ps1") or "IPython" in sys.modules
    return at_work() and not interactive and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


def wait_for_work_left() -> None:
    """Wait for the calls that still go on and that nobody waits for."""
    while at_work():
        for thread in tuple(_left):
            thread.join(POLL)


def end_work() -> None:
    """Wait for the calls that still go on, at the end of Python: what has not begun never will."""
    _is_ending.set()
    for background in tuple(_backgrounds):
        background.cancel()
    wait_for_work_left()


def _start(threads: Iterable[threading.Thread]) -> None:
    with _starting:  # the size of a stack is a setting of the whole process
        before = threading.stack_size(STACK)
        try:
            for thread in threads:
                thread.start()
        finally:
            threading.stack_size(before)


def _leave(threads: Iterable[threading.Thread]) -> None:
    with _leaving:
        _left[:] = [thread for thread in (*_left, *threads) if thread.is_alive()]


def _make(call: Callable[[], Result], result: "Future[Result]") -> None:
    try:
        result.set_result(call())
    except BaseException as error:
        result.set_exception(error)


@atexit.register
def _end() -> None:
    """Wait for what still goes on, since the end of Python would crash beside it; or end the process first, by the signal of Ctrl-C.

    This is how Python ends a program that has not caught its `KeyboardInterrupt`. A second Ctrl-C ends the wait, too.
    """
    if not at_work():
        return
    try:
        if not leaves_work():
            end_work()
            return
    except KeyboardInterrupt:
        pass
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)
