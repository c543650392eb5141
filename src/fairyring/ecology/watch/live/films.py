"""Films of what pages were shown: written in threads of their own, and fetched by the pages."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np

from fairyring.ecology.watch.live.frames import decode
from fairyring.ecology.watch.live.messages import Filmed, Tell, Writing, refusal
from fairyring.ecology.watch.scene import Frame
from fairyring.ecology.watch.video import require_writer, write_video

LONGEST_FILM = 60  # seconds
MOST_FILMS = 8  # older ones are removed
FPS, SLOWEST = 30, 5  # frames a second at most and at least
SIZE, TOLD = 512, 30  # pixels per side; frames between two words on how far it is

log = logging.getLogger(__name__)


class Film:
    """Frames that a page was shown, as many a second as a film has, so that it goes at the pace that was seen."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._times: list[float] = []

    def add(self, frame: bytes, now: float) -> None:
        """Keep an encoded frame, shown at a time in seconds, unless it follows too soon or the film is too long."""
        # A little early is in time: pages draw sixty times a second.
        soon = self._times and now - self._times[-1] < 0.9 / FPS
        if not soon and len(self.frames) < FPS * LONGEST_FILM:
            self.frames.append(frame)
            self._times.append(now)

    @property
    def fps(self) -> float:
        """Frames a second: as they usually came, so that pauses do not count."""
        if len(self._times) < 2:
            return FPS
        usual = float(np.median(np.diff(self._times)))
        return min(FPS, max(SLOWEST, 1 / max(usual, 1e-9)))


class Films:
    """A folder of films, which ends with the block: `with Films() as films`."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._names: list[str] = []
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        # A film that is being written when the server stops is lost, and must not keep it from stopping.
        self._folder = TemporaryDirectory(prefix="fairyring-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._folder is not None:
            self._folder.cleanup()

    def check(self) -> None:
        """Raise `MissingExtra` unless films can be written."""
        require_writer(".mp4")

    def write(self, film: Film, tell: Callable[[Tell], None]) -> None:
        """Write a film in a thread of its own, and tell its address, or why there is none.

        Args:
            film: with at least one frame.
            tell: called from that thread.
        """
        threading.Thread(target=self._write, args=(film, tell), name="fairyring-film", daemon=True).start()

    def read(self, name: str) -> bytes | None:
        """The content of a film; None if there is none of that name."""
        with self._lock:
            return self._path(name).read_bytes() if name in self._names else None

    def _write(self, film: Film, tell: Callable[[Tell], None]) -> None:
        name = f"{secrets.token_hex(8)}.mp4"
        try:
            write_video(_decoded(film.frames, tell), self._path(name), fps=film.fps, size=SIZE)
        except Exception as error:
            if self._closed:
                return  # and so is the page
            log.exception("a film could not be written")
            tell(refusal(error))
            return
        with self._lock:
            self._names.append(name)
            for old in self._names[:-MOST_FILMS]:
                self._path(old).unlink(missing_ok=True)
            del self._names[:-MOST_FILMS]
        tell(Filmed(f"/film/{name}", len(film.frames)))

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name


def _decoded(frames: Sequence[bytes], tell: Callable[[Tell], None]) -> Iterator[Frame]:
    for i, frame in enumerate(frames):
        if i % TOLD == 0:
            tell(Writing(i, len(frames)))
        yield decode(frame)
