"""Ctrl-C while something that is not Python is at work: it is answered at once, and a later call works."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fairyring.core import interrupts
from fairyring.core.compiled import Compiled, Source, call_apart
from fairyring.core.interrupts import (
    Background,
    at_work,
    end_work,
    interruptible,
    interruptible_pool,
    result_of,
    wait_for_work_left,
)


class Work:
    """A call that goes on until it is released.

    Attributes:
        began: how often it was called.
    """

    def __init__(self) -> None:
        self.released, self.began = threading.Event(), 0

    def __call__(self) -> int:
        self.began += 1
        self.released.wait(60)
        return 3


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.released.set()
    while at_work():
        time.sleep(0.01)


def interrupted(call: Callable[[], object]) -> float:
    """Seconds from Ctrl-C to the `KeyboardInterrupt` that `call` raises."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    timer = threading.Timer(0.2, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    timer.join()
    return time.monotonic() - sent[0]


def test_it_is_answered_at_once_and_the_call_goes_on(work: Work) -> None:
    assert interrupted(lambda: interruptible(work, lambda: 4)) < 0.5
    assert at_work()
    work.released.set()
    assert interruptible(work, lambda: 4) == [3, 4]


@pytest.fixture(params=[True, False], ids=["", "restarted"])
def signals(request: pytest.FixtureRequest) -> Iterator[None]:
    """The system ends a wait at a signal, or goes on with it, as libraries ask for that are loaded with MLflow."""
    signal.siginterrupt(signal.SIGINT, request.param)
    yield
    signal.siginterrupt(signal.SIGINT, True)


def test_a_pool_is_not_waited_for_after_an_interrupt(work: Work, signals: None) -> None:
    def all_of_it() -> None:
        with interruptible_pool(1) as pool:
            result_of(pool.submit(work))

    assert interrupted(all_of_it) < 0.5
    assert at_work()
    work.released.set()
    wait_for_work_left()
    assert not at_work()
    with interruptible_pool(1) as pool:
        late = pool.submit(time.sleep, 0.1)
    assert late.done()


def test_the_first_error_is_raised_once_all_have_ended() -> None:
    ended = []

    def slow() -> None:
        time.sleep(0.1)
        ended.append(True)

    def wrong(what: str) -> Callable[[], None]:
        def call() -> None:
            raise ValueError(what)

        return call

    with pytest.raises(ValueError, match="one"):
        interruptible(wrong("one"), wrong("two"), slow)
    assert ended == [True]


def test_only_the_main_thread_leaves_work_to_others() -> None:
    threads: list[int] = []

    def call() -> None:
        threads.append(threading.get_ident())
        interruptible(lambda: threads.append(threading.get_ident()))

    call()
    assert threads[0] != threads[1]
    other = threading.Thread(target=call)
    other.start()
    other.join()
    assert threads[2] == threads[3]


def test_in_the_background_some_calls_are_made_at_a_time() -> None:
    begun, go = [], threading.Event()

    def call(number: int) -> int:
        begun.append(number)
        assert go.wait(10)
        if number == 1:
            raise ValueError("the second")
        return number

    background = Background(2)
    results = [background.submit(partial(call, number)) for number in range(5)]
    assert results[4].cancel()
    assert (sorted(begun), [one.running() for one in results]) == ([0, 1], [True, True, False, False, False])
    go.set()
    with pytest.raises(ValueError, match="the second"):
        results[1].result(10)
    assert [results[place].result(10) for place in (0, 2, 3)] == [0, 2, 3]
    go.clear()
    last = [background.submit(partial(call, number)) for number in (5, 6, 7)]
    while not all(one.running() for one in last[:2]):
        time.sleep(0.001)
    background.cancel()
    go.set()
    assert [one.cancelled() for one in last] == [False, False, True]
    assert [one.result(10) for one in last[:2]] == [5, 6]


def test_at_the_end_what_has_not_begun_never_will(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_is_ending", threading.Event())
    background, done = Background(1), []

    def call(number: int) -> None:
        time.sleep(0.2)
        done.append(number)

    results = [background.submit(partial(call, number)) for number in range(5)]
    end_work()
    assert (done, at_work()) == ([0], False)
    assert [one.cancelled() for one in results] == [False, True, True, True, True]


SCRIPT = """
import atexit, sys, time
from fairyring.core.interrupts import Background, interruptible

def work():
    time.sleep({seconds})

atexit.register(print, "exit handlers have run")
try:
    print("begun", flush=True)
    {call}
except KeyboardInterrupt:
    {then}
"""


@pytest.mark.parametrize(
    ("call", "then", "seconds", "signals", "status"),
    [
        (
            "interruptible(work)",
            "raise",
            30.0,
            1,
            -signal.SIGINT,
        ),  # as Python ends a program that has not caught it
        ("interruptible(work)", "sys.exit(3)", 1.0, 1, 3),
        ("interruptible(work)", "sys.exit(3)", 30.0, 2, -signal.SIGINT),
        ("Background(1).submit(work).result()", "raise", 30.0, 1, -signal.SIGINT),
    ],
    ids=["uncaught", "caught", "twice", "background"],
)
def test_a_program_ends_while_work_goes_on(
    call: str, then: str, seconds: float, signals: int, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(call=call, then=then, seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        sent = 0.0
        for _ in range(signals):
            time.sleep(0.3)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == status
    assert "exit handlers have run" in out
    assert (time.monotonic() - sent > 0.5) == (status == 3)  # only then the work was waited for


class Lowered:
    """A lowered program whose compiler waits to be released."""

    def __init__(self, lowered: Any, work: Work) -> None:
        self.lowered, self.work = lowered, work

    def compile(self) -> Any:
        self.work()
        return self.lowered.compile()


def test_a_compilation_that_was_interrupted_goes_on_for_whoever_asks_next(work: Work) -> None:
    lowered = Lowered(jax.jit(lambda x: [x + 1]).lower(jnp.zeros(3)), work)
    source = Source(lambda _: lowered, 1, 1, {})  # type: ignore[arg-type]
    program, processor = Compiled(source, None, ""), jax.devices()[0]
    assert interrupted(lambda: program.on(processor)) < 0.5
    assert program.compilations == 0
    work.released.set()
    assert program.on(processor)(jnp.zeros(3))[0].tolist() == [1, 1, 1]
    assert program.on(processor) is program.on(processor)
    assert (program.compilations, work.began) == (1, 1)


def test_settings_of_the_calling_thread_hold_where_its_call_is_made() -> None:
    def seen() -> tuple[bool, int]:
        return jax.config.jax_enable_x64, threading.get_ident()  # pyright: ignore[reportAttributeAccessIssue]

    outside = seen()[0]
    with jax.enable_x64(not outside):
        value, thread = call_apart(seen)
    assert value is not outside
    assert thread != threading.get_ident()
    assert call_apart(seen)[0] is outside


def test_a_call_stays_in_a_thread_whose_settings_cannot_be_carried_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with jax.enable_x64(True):
        monkeypatch.delattr(jax, "enable_x64")
        assert call_apart(threading.get_ident) == threading.get_ident()
