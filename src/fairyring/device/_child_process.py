"""A child process that has loaded a program: begun, asked within a time, and ended, as seen from the device's process."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np

from fairyring.core.errors import TrainingFailed
from fairyring.device._pipe import receive, send

_TAIL = 2000  # bytes of what a child said before it ended
_SAYS_MEMORY = (b"bad_alloc", b"MemoryError", b"RESOURCE_EXHAUSTED", b"ut of memory", b"annot allocate")


class Child:
    """A child process with a program."""

    def __init__(
        self, key: Any, target: str, program: bytes, memory: int, nice: int, cores: int | None
    ) -> None:
        self.key = key
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the child
        threads = (
            {} if cores is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores))
        )
        self._over = threading.Event()
        self._process = self._begin({**os.environ, **threads})
        facts = {"target": target, "nice": nice, "cores": cores, "memory": memory}
        self._first: tuple[dict[str, Any], list[np.ndarray]] | None = (
            facts,
            [np.frombuffer(program, np.uint8)],
        )

    def _begin(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start the process, in a thread that lasts as long as it: Linux ends it with the thread that started it."""
        started: Future[subprocess.Popen[bytes]] = Future()

        def begin() -> None:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fairyring.device.child"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    env=environment,
                    # Ctrl-C is for the device, which ends its child itself.
                    start_new_session=True,
                )
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(process)
            self._over.wait()

        threading.Thread(target=begin, name="child", daemon=True).start()
        return started.result()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, arguments: list[np.ndarray], most: int, seconds: float
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """What the program gives for these arguments. The child is killed when the time is over, which ends every wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        is_late = threading.Event()

        def late() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), late)
        timer.daemon = True
        timer.start()
        try:
            try:
                if self._first is not None:
                    send(self._process.stdin, *self._first)
                    self._first = None
                send(self._process.stdin, {}, arguments)
            except BrokenPipeError:
                pass  # it may have said why
            facts, found = receive(self._process.stdout, most)
        except (EOFError, OSError):
            if is_late.is_set():
                raise TrainingFailed(
                    "timeout",
                    given=f"more than {seconds:g} s",
                    expected="a result within the limits of the plan and of this device",
                    do="Give this device more time, or leave the plan to faster ones.",
                ) from None
            raise self._ended() from None
        finally:
            timer.cancel()
        if "failed" in facts:
            kind = "memory" if facts["failed"] == "memory" else "crashed"
            raise failure(kind, str(facts.get("said", ""))[:500])
        return facts, found

    def end(self) -> None:
        """End the process, at once."""
        self._process.kill()
        self._process.wait()
        self._over.set()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._said.close()

    def _ended(self) -> TrainingFailed:
        status = self._process.wait()
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL))
        said = self._said.read()
        # Linux kills who takes the last memory of a machine.
        killed = status == -getattr(signal, "SIGKILL", 9)
        short = killed or any(word in said for word in _SAYS_MEMORY)
        last = said.decode(errors="replace").strip().splitlines()[-1:] or [""]
        return failure(
            "memory" if short else "crashed", f"the process ended with {status} {last[0][:300]}".strip()
        )


def failure(reason: str, said: str) -> TrainingFailed:
    if reason == "memory":
        expected, do = (
            "no more memory than the plan and this device allow",
            "Give this device's training more memory.",
        )
    else:
        expected, do = "a program that runs here", "Nothing is sent; see what the runtime said."
    return TrainingFailed(reason, given=said or "nothing said", expected=expected, do=do)
