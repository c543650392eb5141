"""The messages between a page and the world, besides frames: JSON objects with their kind in `kind`.

All requests of a page are defined here with the bounds of their numbers, so a message is either valid as a whole or refused with a
`Refused` that gives the reason.
"""

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fairyring.core.errors import EcologyError, FairyringError
from fairyring.ecology.watch.scene import Knob, Life

LONGEST = 2048  # bytes of a message from a page; more than twice the longest valid one
SPEEDS = (
    0,
    1,
    2,
    4,
    8,
    16,
    32,
    64,
)  # steps per frame; 0 for full speed. A scene compiles once for each number

_Place = Annotated[float, Meta(ge=0, le=65535)]
_Name = Annotated[str, Meta(max_length=64)]


class _Ask(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class Next(_Ask, frozen=True, tag="next"):
    """Send the next frame when there is one; a page asks again when it has drawn it."""


class Pause(_Ask, frozen=True, tag="pause"):
    """Pause or continue."""

    on: bool


class Step(_Ask, frozen=True, tag="step"):
    """Make exactly one step, and pause."""


class Speed(_Ask, frozen=True, tag="speed"):
    """Change the number of steps per frame to one of `SPEEDS`."""

    steps: Literal[0, 1, 2, 4, 8, 16, 32, 64]


class Turn(_Ask, frozen=True, tag="turn"):
    """Turn a knob."""

    name: _Name
    value: float


class Paint(_Ask, frozen=True, tag="paint"):
    """Add `amount` units of food to each cell within `radius` cells."""

    x: _Place
    y: _Place
    radius: Annotated[float, Meta(gt=0, le=64)]
    amount: Annotated[float, Meta(ge=0, le=10)]


class Pick(_Ask, frozen=True, tag="pick"):
    """Follow the nearest individual, or nobody if there is none within `radius` cells."""

    x: _Place
    y: _Place
    radius: Annotated[float, Meta(gt=0, le=64)]


class Watch(_Ask, frozen=True, tag="watch"):
    """Follow this individual; -1 for nobody."""

    uid: Annotated[int, Meta(ge=-1, lt=2**31)]


class Heir(_Ask, frozen=True, tag="heir"):
    """Follow a living descendant of this individual, whose line goes on with it."""

    uid: Annotated[int, Meta(ge=0, lt=2**31)]


class Restart(_Ask, frozen=True, tag="restart"):
    """Restart the world, with some knobs changed: value by name."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    changes: Annotated[dict[_Name, float], Meta(max_length=64)] = {}


class Film(_Ask, frozen=True, tag="film"):
    """Film what is shown on this page from now on, or end the film and write it."""

    on: bool


Ask = Next | Pause | Step | Speed | Turn | Paint | Pick | Watch | Heir | Restart | Film


class Tell(Struct, frozen=True, tag_field="kind"):
    """A message to a page."""


class Hello(Tell, frozen=True, tag="hello"):
    """What a page needs before the first frame, and again after a restart.

    `session` changes at each start of the server, so that a page that reconnects knows whether it is the same world.
    """

    session: str
    seed: int
    width: int
    capacity: int
    divides: float
    palette: dict[str, tuple[int, int, int] | float]
    points: list[tuple[int, int, float, float, int, int, int]]
    gap: int


class State(Tell, frozen=True, tag="state"):
    """Whether the world is paused, and the number of steps per frame."""

    paused: bool
    speed: int


class Knobs(Tell, frozen=True, tag="knobs"):
    """All knobs, in order."""

    knobs: list[Knob]


class Watched(Tell, frozen=True, tag="life"):
    """The life that is followed, at a step; `life` is None if there is none."""

    step: int
    life: dict[str, object] | None


class Filming(Tell, frozen=True, tag="filming"):
    """Whether this page is being filmed, and the seconds after which the film ends by itself."""

    on: bool
    most: int


class Writing(Tell, frozen=True, tag="writing"):
    """How far the writing of a film is, in frames."""

    done: int
    frames: int


class Filmed(Tell, frozen=True, tag="filmed"):
    """A film is written, and can be fetched."""

    url: str
    frames: int


class Refused(Tell, frozen=True, tag="error"):
    """A request that was refused, with the four parts of the error."""

    what: str
    given: str
    expected: str
    do: str


_decoder = msgspec.json.Decoder(Ask)
_encoder = msgspec.json.Encoder(enc_hook=lambda value: _plain(value))


def read(text: str | bytes) -> Ask:
    """Parse a message of a page.

    Raises:
        EcologyError: it is too long, not JSON, or not something a page may ask.
    """
    if len(text) > LONGEST:
        raise _malformed(f"{len(text)} characters", f"at most {LONGEST}")
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _malformed(str(error), "a request of this version of the page") from error


def write(message: Tell) -> str:
    """A message to a page, as JSON; numbers that are not finite are null."""
    return _encoder.encode(message).decode()


def watched(step: int, life: Life | None) -> Watched:
    """The message about the life that is followed."""
    if life is None:
        return Watched(step, None)
    return Watched(step, {name: getattr(life, name) for name in Life.__dataclass_fields__})


def refusal(error: Exception) -> Refused:
    """An error as a page shows it; of unexpected errors it shows only the type."""
    if isinstance(error, FairyringError) and hasattr(error, "given"):
        return Refused(error.what, str(error.given), error.expected, error.do)
    return Refused(
        "the world",
        given=type(error).__name__,
        expected="no error",
        do="See the terminal for details. The world is paused, and can be restarted.",
    )


def _plain(value: object) -> object:
    """NumPy numbers and arrays as Python values."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(type(value).__name__)


def _malformed(given: str, expected: str) -> EcologyError:
    return EcologyError("message", given=given, expected=expected, do="Reload the page.")
