"""Films of what pages were shown: written in threads of their own, and fetched by the pages."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from fairyring.ecology.watch.live.frames import decode
from fairyring.ecology.watch.live.messages import Filmed, Tell, Writing, refusal
from fairyring.ecology.watch.scene import Frame
from fairyring.ecology.watch.video import require_writer, write_video

LONGEST_FILM = 1800  # frames, a minute; a page's frames take up to 50 kilobytes each
MOST_FILMS = 8  # older ones are removed
FPS, SIZE, TOLD = 30, 512, 30  # a second; pixels per side; frames between two words on how far it is

log = logging.getLogger(__name__)


class Films:
    """A folder of films, which ends with the block: `with Films() as films`."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._names: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        # A film that is being written when the server stops is lost, and must not keep it from stopping.
        self._folder = TemporaryDirectory(prefix="fairyring-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def check(self) -> None:
        """Raise `MissingExtra` unless films can be written."""
        require_writer(".mp4")

    def write(self, frames: Sequence[bytes], tell: Callable[[Tell], None]) -> None:
        """Write a film in a thread of its own, and tell its address, or why there is none.

        Args:
            frames: encoded, at least one.
            tell: called from that thread.
        """
        threading.Thread(target=self._write, args=(frames, tell), name="fairyring-film", daemon=True).start()

    def read(self, name: str) -> bytes | None:
        """The content of a film; None if there is none of that name."""
        with self._lock:
            return self._path(name).read_bytes() if name in self._names else None

    def _write(self, frames: Sequence[bytes], tell: Callable[[Tell], None]) -> None:
        name = f"{secrets.token_hex(8)}.mp4"
        try:
            write_video(_decoded(frames, tell), self._path(name), fps=FPS, size=SIZE)
        except Exception as error:
            log.exception("a film could not be written")
            tell(refusal(error))
            return
        with self._lock:
            self._names.append(name)
            for old in self._names[:-MOST_FILMS]:
                self._path(old).unlink(missing_ok=True)
            del self._names[:-MOST_FILMS]
        tell(Filmed(f"/film/{name}", len(frames)))

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name


def _decoded(frames: Sequence[bytes], tell: Callable[[Tell], None]) -> Iterator[Frame]:
    for i, frame in enumerate(frames):
        if i % TOLD == 0:
            tell(Writing(i, len(frames)))
        yield decode(frame)
