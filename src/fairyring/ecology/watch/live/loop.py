"""The loop that runs a world in its own thread and shows it to viewers on request.

Frames are made only on request, so a slow page, or none, costs the world nothing. Everything that touches the scene is done on the
loop's thread, between two calls of `advance`, so a scene needs no locks.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from fairyring.core.errors import EcologyError, FairyringError
from fairyring.ecology.watch.live.history import History
from fairyring.ecology.watch.live.messages import Refused, State, Tell, refusal
from fairyring.ecology.watch.scene import Frame, Life, Scene

CHUNK = 64  # most steps between two checks for requests, at full speed
SLOW, QUICK = 0.025, 0.006  # seconds: a chunk that takes longer is halved, one that takes less is doubled
BACKLOG = 256  # largest number of pending requests

log = logging.getLogger(__name__)


class Viewer(Protocol):
    """A viewer of the world. The loop calls its methods on its own thread; they must not block.

    Attributes:
        watching: uid of the individual whose life is followed; None for nobody. Only the loop's thread reads and writes it.
    """

    watching: int | None

    def show(self, frame: Frame, life: Life | None) -> None:
        """Show a requested frame, with counts since the last one shown here, and the life that is followed."""
        ...

    def tell(self, message: Tell) -> None:
        """Receive a message."""
        ...


class Loop:
    """Runs a scene until it is closed: `with Loop(scene) as loop`. It starts paused."""

    def __init__(self, scene: Scene) -> None:
        self.history = History()
        self._scene = scene
        self._wake = threading.Condition()
        self._jobs: deque[Callable[[Scene], None]] = deque()
        # For each viewer: the version of the world that it has seen, and the totals it has been told.
        self._viewers: dict[Viewer, tuple[int, tuple[int, int, int]]] = {}
        self._asking: set[Viewer] = set()
        self._state = State(paused=True, speed=1)
        self._version = 0
        self._chunk = CHUNK
        self._slow = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fairyring-world", daemon=True)

    def __enter__(self) -> "Loop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def state(self) -> State:
        """Whether it is paused, and its speed."""
        return self._state

    def join(self, viewer: Viewer) -> None:
        """Add a viewer; the first frame that it asks for comes at once."""
        with self._wake:
            history = self.history
            self._viewers[viewer] = (-1, (history.births, history.deaths, history.immigrants))

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        with self._wake:
            self._viewers.pop(viewer, None)
            self._asking.discard(viewer)

    def viewers(self) -> list[Viewer]:
        """All viewers."""
        with self._wake:
            return list(self._viewers)

    def tell(self, message: Tell) -> None:
        """Send a message to all viewers."""
        for viewer in self.viewers():
            viewer.tell(message)

    def ask(self, viewer: Viewer) -> None:
        """Request the next frame that the viewer has not seen. Repeated requests count once."""
        with self._wake:
            if viewer in self._viewers:
                self._asking.add(viewer)
                self._wake.notify()

    def do(self, job: Callable[[Scene], None], blame: Callable[[Refused], None]) -> None:
        """Run a job with the scene on its thread. If it fails, `blame` gets the error, and the world goes on.

        Raises:
            EcologyError: `BACKLOG` jobs are pending already.
        """

        def guarded(scene: Scene) -> None:
            try:
                job(scene)
            except Exception as error:
                if not isinstance(error, FairyringError):
                    log.exception("a request of a page failed")
                blame(refusal(error))

        with self._wake:
            if len(self._jobs) >= BACKLOG:
                raise EcologyError(
                    "request",
                    given=f"{BACKLOG} pending ones",
                    expected="fewer",
                    do="Wait until they are done.",
                )
            self._jobs.append(guarded)
            self._wake.notify()

    def set(self, *, paused: bool | None = None, speed: int | None = None) -> None:
        """Pause or continue, or change the speed, and tell all viewers."""
        with self._wake:
            now = self._state
            self._state = State(
                now.paused if paused is None else paused, now.speed if speed is None else speed
            )
            self._wake.notify()
        self.tell(self._state)

    def forget(self, viewer: Viewer) -> None:
        """Forget what a viewer has seen, so that the next frame it asks for comes at once."""
        with self._wake:
            if viewer in self._viewers:
                self._viewers[viewer] = (-1, self._viewers[viewer][1])

    def changed(self) -> None:
        """Mark the world as changed (to be called on the loop's thread, from a job)."""
        self._version += 1

    def step(self, scene: Scene) -> None:
        """A job: make exactly one step, and pause."""
        self.set(paused=True)
        scene.advance(1)
        self.changed()

    def begin_again(self, scene: Scene, seed: int, changes: Mapping[str, float]) -> None:
        """A job: restart the scene, with some knobs changed, and clear the history."""
        scene.restart(seed, changes)
        scene.prepare()
        with self._wake:
            self.history = History()
            self._viewers = dict.fromkeys(self._viewers, (-1, (0, 0, 0)))
            for viewer in self._viewers:
                viewer.watching = None
        self.changed()

    def _run(self) -> None:
        try:
            self._scene.prepare()
        except Exception:
            log.exception(
                "the world could not be prepared"
            )  # its first step fails likewise, and pages are told
        while True:
            with self._wake:
                while not (self._closing or self._jobs or self._moving() or self._behind()):
                    self._wake.wait()
                if self._closing:
                    return
                jobs, self._jobs = self._jobs, deque()
            for job in jobs:
                job(self._scene)
            try:
                if self._moving():
                    self._advance()
                self._answer()
            except Exception as error:
                # A world that failed would fail again at once, so it stays paused until somebody continues or restarts it.
                log.exception("the world stopped")
                with self._wake:
                    self._asking.clear()
                self.set(paused=True)
                self.tell(refusal(error))

    def _moving(self) -> bool:
        """Whether the world has steps to make: at full speed always, otherwise if a viewer waits for them."""
        return not self._state.paused and (self._state.speed == 0 or bool(self._asking))

    def _behind(self) -> list[Viewer]:
        """Viewers with a request that have not seen the present version."""
        return [viewer for viewer in self._asking if self._viewers[viewer][0] != self._version]

    def _advance(self) -> None:
        steps = self._state.speed or self._chunk
        began = time.perf_counter()
        self._scene.advance(steps)
        self.changed()
        if self._state.speed:
            return
        took = time.perf_counter() - began
        # Twice in a row, since the first call with a new number of steps may have compiled.
        self._slow = self._slow + 1 if took > SLOW else 0
        if self._slow > 1 and steps > 1:
            self._chunk, self._slow = steps // 2, 0
        elif took < QUICK and steps < CHUNK:
            self._chunk = 2 * steps

    def _answer(self) -> None:
        with self._wake:
            asking = self._behind()
        if not asking:
            return
        frame = self._scene.frame()
        self.history.add(frame)
        sums = (self.history.births, self.history.deaths, self.history.immigrants)
        for viewer in asking:
            life = None if viewer.watching is None else self._scene.life(viewer.watching)
            with self._wake:
                if viewer not in self._viewers:
                    continue
                births, deaths, immigrants = (
                    now - then for now, then in zip(sums, self._viewers[viewer][1], strict=True)
                )
                self._viewers[viewer] = (self._version, sums)
                self._asking.discard(viewer)
            counts = replace(frame.counts, births=births, deaths=deaths, immigrants=immigrants)
            viewer.show(replace(frame, counts=counts), life)
