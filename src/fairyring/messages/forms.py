"""What devices and service say to each other beside the secure sum: MessagePack of these structs, with nothing unknown in them.

POST /v1/enrol              Enrol             -> Enrolled
POST /v1/check-in           CheckIn           -> Later | Invitation
GET  /v1/blobs/DIGEST       (ranges; ?from=DIGEST for a change)  -> bytes
POST /v1/sessions/ID        a message of the session, or nothing  -> Turn
POST /v1/sessions/ID/leave  Leave             -> Left
any of them                                   -> Problem, with a status of 400 and more
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fairyring.core.errors import WireError
from fairyring.messages.manifest import Digest, Key

VERSION = 1
SMALL = 64 << 10  # bytes of any of these but a turn
MEDIA = "application/msgpack"

Name = Annotated[str, Meta(max_length=200)]
SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Seconds = Annotated[float, Meta(ge=0, le=86400 * 366)]
Word = Annotated[int, Meta(ge=0, lt=1 << 32)]
T = TypeVar("T")


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form"):
    pass


class About(_Form, tag="about", frozen=True):
    """What a service says of itself to anyone: its public key, and what it speaks."""

    service: Key
    version: Name
    speaks: tuple[int, ...]


class Enrol(_Form, tag="enrol", frozen=True):
    """A device asks to be enrolled: with a token, or as one whose key is allowed. The key is the one that signs the request."""

    token: Annotated[str, Meta(max_length=200)]
    name: Name


class Enrolled(_Form, tag="enrolled", frozen=True):
    """The device may check in. `authors` are keys of authors whose plans run here: whom to trust is for the device's owner to say."""

    name: Name
    authors: tuple[Key, ...] = ()


class CheckIn(_Form, tag="check_in", frozen=True):
    """A device is there.

    Attributes:
        version: of its software.
        speaks: versions of this protocol.
        targets: programs that it can run, such as `iree-x86_64`, the best first.
        refused: digests of manifests that it will not take part in: nobody waits for it in their sessions.
        eligible: whether it may train now: idle, charging, on a free network. One that may not only learns when to come back.
    """

    version: Name
    speaks: Annotated[tuple[int, ...], Meta(max_length=16)]
    targets: Annotated[tuple[Name, ...], Meta(max_length=16)]
    refused: Annotated[tuple[Digest, ...], Meta(max_length=256)] = ()
    eligible: bool = True


class Later(_Form, tag="later", frozen=True):
    """There is nothing to do now: come back in so many seconds."""

    seconds: Seconds
    why: Name = ""


class Invitation(_Form, tag="invitation", frozen=True):
    """A device is asked to take part in a round.

    Attributes:
        run: which run.
        session: which session of it.
        manifest: digest of the signed manifest.
        round: number of the round, from 1.
        model: digest of the model's bytes.
        previous: head of the run's history, where there is one.
        shared_key: words of the key of this round's stages, which all devices of a round share.
        seconds: that are left to report.
        place: of the device among the clients of the run. Only rehearsals use it, to draw what a simulation draws.
        reservation: number of the round in the run's ledger; used as `place` is.
    """

    run: Name
    session: SessionId
    manifest: Digest
    round: Annotated[int, Meta(ge=1, lt=1 << 40)]
    model: Digest
    previous: Digest | None
    shared_key: tuple[Word, Word]
    seconds: Seconds
    place: Annotated[int, Meta(ge=0, lt=1 << 40)]
    reservation: Annotated[int, Meta(ge=0, lt=1 << 40)]


class Turn(_Form, tag="turn", frozen=True):
    """What a session has for a device.

    Attributes:
        phase: of the session, as the service sees it.
        messages: for this device, in order; a device answers each that asks for an answer.
        over: how the session ended, if it has: `summed` or `aborted`, or `left` if it goes on without this device.
        wait: seconds after which to ask again.
    """

    phase: Name
    messages: tuple[bytes, ...] = ()
    over: Name = ""
    wait: Seconds = 0.0


class Leave(_Form, tag="leave", frozen=True):
    """A device leaves a session, and says why in a word that the service may count."""

    reason: Annotated[str, Meta(max_length=40, pattern=r"^[a-z_]*$")]


class Left(_Form, tag="left", frozen=True):
    """It has left."""


class Problem(_Form, tag="problem", frozen=True):
    """Why a request was refused.

    Attributes:
        kind: a word for programs: `malformed`, `unsigned`, `unknown_device`, `revoked`, `replayed`, `too_large`, `too_many`, `not_found`, `late`,
            `unsupported`, `busy` or `failed`.
        given, expected, do: for people.
        retry: seconds after which the same request may succeed; None if it will not.
    """

    kind: Annotated[str, Meta(max_length=40)]
    given: Annotated[str, Meta(max_length=500)]
    expected: Annotated[str, Meta(max_length=500)]
    do: Annotated[str, Meta(max_length=500)]
    retry: Seconds | None = None


def encode(form: msgspec.Struct) -> bytes:
    """A form as bytes."""
    return msgspec.msgpack.encode(form)


def decode(data: bytes, kind: type[T] | Any, maximum: int = SMALL) -> T:
    """The form in `data`.

    Args:
        data: as it was received.
        kind: the expected struct, or a union of them.
        maximum: the most bytes.

    Raises:
        WireError: it is too long, or is not such a form.
    """
    try:
        if len(data) > maximum:
            raise msgspec.ValidationError(f"{len(data)} bytes, of at most {maximum}")
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            "message",
            given=f"{error}"[:300],
            expected=f"a form of version {VERSION} of this protocol",
            do="See the page on the protocol.",
        ) from None
