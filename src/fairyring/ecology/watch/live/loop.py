"""The world runs in a thread of its own; whoever looks asks, and is shown what there is when he asks.

Nothing is made for those who did not ask: a slow page, or none, costs the world nothing. All that touches the scene is
done on its thread, between two calls of `advance`, so a scene needs no locks.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from fairyring.core.errors import EcologyError, FairyringError
from fairyring.ecology.watch.live.history import History
from fairyring.ecology.watch.live.messages import Refused, State, Tell, refusal
from fairyring.ecology.watch.scene import Frame, Life, Scene

CHUNK = 64  # most steps between two looks at what is asked, when the world goes as fast as it can
SLOW, QUICK = 0.025, 0.006  # seconds: a chunk that takes longer is halved, one that takes less is doubled
BACKLOG = 256  # of things asked and not yet done

log = logging.getLogger(__name__)


class Viewer(Protocol):
    """Somebody who looks. The loop calls these on its thread: they hand over and do not wait.

    Attributes:
        watching: uid of the one whose life he follows; None: of nobody. Only the loop's thread reads and writes it.
    """

    watching: int | None

    def show(self, frame: Frame, life: Life | None) -> None:
        """The frame asked for, its counts since the last one shown here, and the life that is watched."""
        ...

    def tell(self, message: Tell) -> None:
        """Something that all are told."""
        ...


class Loop:
    """Runs a scene until it is closed: `with Loop(scene) as loop`. It begins paused."""

    def __init__(self, scene: Scene) -> None:
        self.history = History()
        self._scene = scene
        self._wake = threading.Condition()
        self._jobs: deque[Callable[[Scene], None]] = deque()
        # Of every viewer: what he has seen (the number of a state of the world), and the sums he has been told.
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
        """Whether it stands, and how fast it goes."""
        return self._state

    def join(self, viewer: Viewer) -> None:
        """Somebody begins to look; the first frame he asks for comes at once."""
        with self._wake:
            history = self.history
            self._viewers[viewer] = (-1, (history.births, history.deaths, history.immigrants))

    def leave(self, viewer: Viewer) -> None:
        """He looks no longer."""
        with self._wake:
            self._viewers.pop(viewer, None)
            self._asking.discard(viewer)

    def viewers(self) -> list[Viewer]:
        """All who look."""
        with self._wake:
            return list(self._viewers)

    def tell(self, message: Tell) -> None:
        """Tell it to all who look."""
        for viewer in self.viewers():
            viewer.tell(message)

    def ask(self, viewer: Viewer) -> None:
        """Show him the next frame when there is one that he has not seen; asking twice is asking once."""
        with self._wake:
            if viewer in self._viewers:
                self._asking.add(viewer)
                self._wake.notify()

    def do(self, job: Callable[[Scene], None], blame: Callable[[Refused], None]) -> None:
        """Have something done with the scene on its thread; what goes wrong is told to `blame`, and the world goes on.

        Raises:
            EcologyError: more than `BACKLOG` things wait to be done.
        """

        def guarded(scene: Scene) -> None:
            try:
                job(scene)
            except Exception as error:
                if not isinstance(error, FairyringError):
                    log.exception("what a page asked for went wrong")
                blame(refusal(error))

        with self._wake:
            if len(self._jobs) >= BACKLOG:
                raise EcologyError(
                    "request", given=f"{BACKLOG} before it", expected="fewer", do="Wait until they are done."
                )
            self._jobs.append(guarded)
            self._wake.notify()

    def set(self, *, paused: bool | None = None, speed: int | None = None) -> None:
        """Stand or go on, or go at another speed; all are told."""
        with self._wake:
            now = self._state
            self._state = State(
                now.paused if paused is None else paused, now.speed if speed is None else speed
            )
            self._wake.notify()
        self.tell(self._state)

    def forget(self, viewer: Viewer) -> None:
        """What he has seen does not count: the next frame he asks for comes at once."""
        with self._wake:
            if viewer in self._viewers:
                self._viewers[viewer] = (-1, self._viewers[viewer][1])

    def changed(self) -> None:
        """Whatever was seen is out of date (on the loop's thread, from a job)."""
        self._version += 1

    def step(self, scene: Scene) -> None:
        """A job: take exactly one step, and stand."""
        self.set(paused=True)
        scene.advance(1)
        self.changed()

    def begin_again(self, scene: Scene, seed: int) -> None:
        """A job: restart the scene and forget what was."""
        scene.restart(seed)
        with self._wake:
            self.history = History()
            self._viewers = dict.fromkeys(self._viewers, (-1, (0, 0, 0)))
            for viewer in self._viewers:
                viewer.watching = None
        self.changed()

    def _run(self) -> None:
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
                # A world that fails once fails again at once: it stands until somebody lets it go on, or restarts it.
                log.exception("the world stopped")
                with self._wake:
                    self._asking.clear()
                self.set(paused=True)
                self.tell(refusal(error))

    def _moving(self) -> bool:
        """Whether the world has steps to take: all the time, or when somebody waits for them."""
        return not self._state.paused and (self._state.speed == 0 or bool(self._asking))

    def _behind(self) -> list[Viewer]:
        """Those who ask and have not seen what there is."""
        return [viewer for viewer in self._asking if self._viewers[viewer][0] != self._version]

    def _advance(self) -> None:
        steps = self._state.speed or self._chunk
        began = time.perf_counter()
        self._scene.advance(steps)
        self.changed()
        if self._state.speed:
            return
        took = time.perf_counter() - began
        # Twice in a row: the first call with a new number of steps may have compiled.
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
