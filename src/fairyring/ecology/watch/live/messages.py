"""What a page and the world say to each other besides frames: JSON, one object a message, its kind in `kind`.

A page asks; everything it may ask is here, with the bounds of its numbers, so that a message is understood wholly or
refused with a `Refused` that says why.
"""

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fairyring.core.errors import EcologyError, FairyringError
from fairyring.ecology.watch.scene import Knob, Life

LONGEST = 1024  # bytes of a message from a page: several times the longest that makes sense
SPEEDS = (
    0,
    1,
    2,
    4,
    8,
    16,
    32,
    64,
)  # steps a frame; 0: as fast as it goes. A scene compiles for each number once

_Place = Annotated[float, Meta(ge=0, le=65535)]


class _Ask(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class Next(_Ask, frozen=True, tag="next"):
    """Send the next frame when there is one; a page asks again when it has drawn it."""


class Pause(_Ask, frozen=True, tag="pause"):
    """Let the world stand, or go on."""

    on: bool


class Step(_Ask, frozen=True, tag="step"):
    """Take exactly one step, and stand."""


class Speed(_Ask, frozen=True, tag="speed"):
    """Steps a frame from now on, one of `SPEEDS`."""

    steps: Literal[0, 1, 2, 4, 8, 16, 32, 64]


class Turn(_Ask, frozen=True, tag="turn"):
    """Turn a knob."""

    name: Annotated[str, Meta(max_length=64)]
    value: float


class Paint(_Ask, frozen=True, tag="paint"):
    """Add `amount` units of food a cell within `radius` cells."""

    x: _Place
    y: _Place
    radius: Annotated[float, Meta(gt=0, le=64)]
    amount: Annotated[float, Meta(ge=0, le=10)]


class Pick(_Ask, frozen=True, tag="pick"):
    """Watch the nearest one; nobody if nobody is within `radius` cells."""

    x: _Place
    y: _Place
    radius: Annotated[float, Meta(gt=0, le=64)]


class Watch(_Ask, frozen=True, tag="watch"):
    """Watch this one; -1: nobody any more."""

    uid: Annotated[int, Meta(ge=-1, lt=2**31)]


class Restart(_Ask, frozen=True, tag="restart"):
    """Begin again."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)]


Ask = Next | Pause | Step | Speed | Turn | Paint | Pick | Watch | Restart


class Tell(Struct, frozen=True, tag_field="kind"):
    """Anything said to a page."""


class Hello(Tell, frozen=True, tag="hello"):
    """What a page must know before the first frame, and again after a restart.

    `session` is another at each start of the server, so that a page that comes back knows whether it is the same world.
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
    """Whether the world stands, and how many steps a frame it takes."""

    paused: bool
    speed: int


class Knobs(Tell, frozen=True, tag="knobs"):
    """All knobs, in their order."""

    knobs: list[Knob]


class Watched(Tell, frozen=True, tag="life"):
    """The one that is watched, at a step; `life` is None when nobody is, or nobody is known by that number."""

    step: int
    life: dict[str, object] | None


class Refused(Tell, frozen=True, tag="error"):
    """Something asked could not be done: the four parts of an error of ours."""

    what: str
    given: str
    expected: str
    do: str


_decoder = msgspec.json.Decoder(Ask)
_encoder = msgspec.json.Encoder(enc_hook=lambda value: _plain(value))


def read(text: str | bytes) -> Ask:
    """A page's message.

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
    """The message about the one that is watched."""
    if life is None:
        return Watched(step, None)
    return Watched(step, {name: getattr(life, name) for name in Life.__dataclass_fields__})


def refusal(error: Exception) -> Refused:
    """An error as a page shows it; of errors that are not ours no more than what they are called."""
    if isinstance(error, FairyringError) and hasattr(error, "given"):
        return Refused(error.what, str(error.given), error.expected, error.do)
    return Refused(
        "the world",
        given=type(error).__name__,
        expected="no such thing",
        do="Look at the terminal it was started from; it stands, and can be restarted.",
    )


def _plain(value: object) -> object:
    """What a world counts in NumPy's numbers and arrays, in Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(type(value).__name__)


def _malformed(given: str, expected: str) -> EcologyError:
    return EcologyError("message", given=given, expected=expected, do="Reload the page.")
