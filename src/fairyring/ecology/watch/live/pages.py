"""One open page: its requests run on the world's thread, and messages to it are sent in order."""

import asyncio
import logging
from collections.abc import Callable

from fairyring.core.errors import EcologyError
from fairyring.ecology.watch.live import frames, messages, palette
from fairyring.ecology.watch.live.films import LONGEST_FILM, Film, Films
from fairyring.ecology.watch.live.loop import Loop
from fairyring.ecology.watch.scene import Frame, Life, Scene

UNREAD = 64  # unread messages after which a page is disconnected

log = logging.getLogger(__name__)


class Page:
    """One open page: a queue of what the loop shows and tells it."""

    def __init__(self, to: asyncio.AbstractEventLoop) -> None:
        self.watching: int | None = None
        self._film: Film | None = None
        self._to = to
        self._out: asyncio.Queue[Frame | messages.Tell | None] = asyncio.Queue()

    def show(self, frame: Frame, life: Life | None) -> None:
        """Send a frame, and before it the life that is followed."""
        if self.watching is not None:
            self.tell(messages.watched(frame.step, life))
        self._put(frame)

    def tell(self, message: messages.Tell) -> None:
        """Send a message; can be called from any thread."""
        self._put(message)

    async def next(self) -> str | bytes | None:
        """The next item to send, encoded here and not on the world's thread; None if the page leaves too much unread."""
        item = await self._out.get()
        if isinstance(item, Frame):
            data = frames.encode(item)
            if self._film is not None:
                self._film.add(data, self._to.time())
            return data
        return None if item is None or self._out.qsize() > UNREAD else messages.write(item)

    def start_film(self) -> None:
        """Keep the frames that are sent from now on."""
        self._film = Film()

    def end_film(self) -> Film:
        """What was sent since `start_film`; nothing is kept after that.

        Raises:
            EcologyError: there are none.
        """
        film, self._film = self._film, None
        if film is None or not film.frames:
            raise EcologyError(
                "film", given="no frames", expected="at least one", do="Let the world run while it is filmed."
            )
        return film

    def _put(self, item: Frame | messages.Tell) -> None:
        try:
            self._to.call_soon_threadsafe(self._out.put_nowait, item)
        except RuntimeError:
            # The server stopped in the meantime.
            log.debug("no page left to show a frame")


def greeting(loop: Loop, page: Page, session: str) -> Callable[[Scene], None]:
    """A job: tell a page what it needs before its first frame, and have that frame sent in any case."""

    def hello(scene: Scene) -> None:
        page.tell(
            messages.Hello(
                session=session,
                seed=scene.seed,
                width=scene.settings.width,
                capacity=scene.settings.capacity,
                divides=scene.settings.division_energy,
                palette={
                    "background": palette.BACKGROUND,
                    "food": palette.FOOD,
                    "signal": palette.SIGNAL,
                    "hungry": palette.HUNGRY,
                    "fed": palette.FED,
                    "tumbling": palette.TUMBLING,
                    "foodGlow": palette.FOOD_GLOW,
                    "signalGlow": palette.SIGNAL_GLOW,
                },
                points=loop.history.points,
                gap=loop.history.gap,
            )
        )
        page.tell(messages.Knobs(list(scene.knobs().values())))
        page.tell(loop.state)
        loop.forget(page)

    return hello


def answer(loop: Loop, page: Page, ask: messages.Ask, session: str, films: Films) -> None:
    """Carry out a request of a page, now, on the world's thread, or on one that writes a film.

    Raises:
        EcologyError: too many requests are pending, or there is nothing to film.
        MissingExtra: films cannot be written.
    """
    match ask:
        case messages.Next():
            loop.ask(page)
        case messages.Pause(on):
            loop.set(paused=on)
        case messages.Speed(steps):
            loop.set(speed=steps)
        case messages.Step():
            loop.do(loop.step, page.tell)
        case messages.Turn(name, value):

            def turn(scene: Scene) -> None:
                try:
                    scene.turn(name, value)
                finally:
                    # Also after a refusal, so that the slider returns to the present value.
                    loop.tell(messages.Knobs(list(scene.knobs().values())))
                loop.changed()

            loop.do(turn, page.tell)
        case messages.Paint(x, y, radius, amount):

            def paint(scene: Scene) -> None:
                scene.paint(x, y, radius, amount)
                loop.changed()

            loop.do(paint, page.tell)
        case messages.Pick(x, y, radius):

            def pick(scene: Scene) -> None:
                page.watching = scene.at(x, y, radius)
                _show_life(scene, page)

            loop.do(pick, page.tell)
        case messages.Watch(uid):

            def watch(scene: Scene) -> None:
                page.watching = None if uid < 0 or scene.life(uid) is None else uid
                _show_life(scene, page)

            loop.do(watch, page.tell)
        case messages.Heir(uid):

            def follow(scene: Scene) -> None:
                heir = scene.heir(uid)
                if heir is None:
                    raise EcologyError(
                        f"bacterium {uid}",
                        given="a line that has died out",
                        expected="living descendants",
                        do="Meet another.",
                    )
                page.watching = heir
                _show_life(scene, page)

            loop.do(follow, page.tell)
        case messages.Film(on):
            if on:
                films.check()
                page.start_film()
            page.tell(messages.Filming(on, LONGEST_FILM))
            if not on:
                films.write(page.end_film(), page.tell)
        case messages.Restart(seed, changes):

            def restart(scene: Scene) -> None:
                loop.begin_again(scene, seed, changes)
                for viewer in loop.viewers():
                    if isinstance(viewer, Page):
                        greeting(loop, viewer, session)(scene)

            loop.do(restart, page.tell)


def _show_life(scene: Scene, page: Page) -> None:
    life = None if page.watching is None else scene.life(page.watching)
    page.tell(messages.watched(scene.step, life))
