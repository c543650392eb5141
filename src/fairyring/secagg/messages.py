"""The messages of a secure sum, their one form in bytes, and the most bytes each may take.

MessagePack arrays, the first element saying which message it is. A message is decoded only if it is not longer than
anyone could honestly make it, and only if encoding it again gives the same bytes. What is signed or hashed is made of
the fields as they came.

    device                                server
      Advertise ---------------------->            fresh keys, signed
                <---------------------- Roster     everyone's entries, the neighbours' adverts
      Shares    ---------------------->            sealed for each neighbour
                <---------------------- Mailbox    what the neighbours sealed
      Complaint ---------------------->            only where some of it does not open: signed, of that entry
                <---------------------- Accusation only to a neighbour that is complained of
      Disclosure --------------------->            the shares in question, for anyone to read
                <---------------------- Settlement only to those it concerns: who is barred, and what was disclosed
      MaskedInput -------------------->            the vector and all masks
                <---------------------- Survivors  whose input came
      Consistency -------------------->            signed: this set, and no other
                <---------------------- Signatures enough neighbours, and of the committee, signed the same
      Unmask    ---------------------->            one share of each neighbour
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fairyring.core.errors import MessageRefused, RunDamaged
from fairyring.secagg._suite import SIGNATURE_BYTES, TAG_BYTES, digest
from fairyring.secagg.shamir import SHARE_BYTES, is_share
from fairyring.secagg.terms import Digest

Key = Digest
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Index = Annotated[int, Meta(ge=0, lt=1 << 32)]

PAIR_BYTES = 2 * SHARE_BYTES  # a share of a seed and one of a masking key
SEALED_BYTES = PAIR_BYTES + TAG_BYTES
HASH_BYTES = 32
NAME_BYTES = 16  # of an identity: nobody makes another that begins alike
# A device's share of one neighbour's secret; nothing where it holds none.
Share = Annotated[bytes, Meta(max_length=SHARE_BYTES)]
Sealed = Annotated[bytes, Meta(max_length=SEALED_BYTES)]
# One of these a neighbour, by place; nothing where none is due.
SignatureOrNone = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES)]
Disclosed = Annotated[
    bytes, Meta(max_length=PAIR_BYTES + SIGNATURE_BYTES)
]  # a pair of shares, and a signature


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    def __repr__(self) -> str:
        return type(self).__name__  # what it holds may be somebody's secret


class Advertise(_Message, tag="advertise", frozen=True):
    """A device's keys for one session."""

    identity: Key
    encryption_key: Key
    masking_key: Key
    nonce: Key
    commitment: Key  # to the seed of its self-mask
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        """What is signed."""
        fields = (self.identity, self.encryption_key, self.masking_key, self.nonce, self.commitment)
        return digest("advertise", context, *fields)

    def hash(self, context: bytes) -> bytes:
        """By which the roster names it."""
        return digest("advert", context, self.payload(context), self.signature)

    def entry(self, context: bytes, *, named: bool) -> bytes:
        """What a roster has of it: its hash, and where not everyone sees it also the beginning of its identity."""
        return self.hash(context) + (self.identity[:NAME_BYTES] if named else b"")


class Roster(_Message, tag="roster", frozen=True):
    """Who takes part: the entries of all adverts, ascending and joined, and the adverts of the device's neighbours, behind
    them those of the committee, if there is one."""

    entries: bytes
    beacon: Annotated[bytes, Meta(max_length=64)]
    neighbours: tuple[Advertise, ...]


class Shares(_Message, tag="shares", frozen=True):
    """For each neighbour, by its place, sealed shares of the sender's two secrets."""

    root: Digest
    sender: Index
    sealed: tuple[Sealed, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("shares", context, self.root, _number(self.sender), *self.sealed)


class Mailbox(_Message, tag="mailbox", frozen=True):
    """What each neighbour, by its place, sealed for the receiver; nothing from those that have vanished."""

    root: Digest
    sealed: tuple[Sealed, ...]


class Complaint(_Message, tag="complaint", frozen=True):
    """For each neighbour, by its place, a signature that what came of it does not open; nothing where all is well."""

    root: Digest
    sender: Index
    complaints: tuple[SignatureOrNone, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("complaints", context, self.root, _number(self.sender), *self.complaints)


class Accusation(_Message, tag="accusation", frozen=True):
    """What each neighbour, by its place, signed of the receiver's sealed shares; nothing from those content with them."""

    root: Digest
    complaints: tuple[SignatureOrNone, ...]


class Disclosure(_Message, tag="disclosure", frozen=True):
    """For each neighbour that complained, by its place, the two shares that were sealed for it, signed."""

    root: Digest
    sender: Index
    disclosed: tuple[Disclosed, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("disclosures", context, self.root, _number(self.sender), *self.disclosed)


class Settlement(_Message, tag="settlement", frozen=True):
    """Who is barred, a bitmap over the receiver's neighbours; and by place what was disclosed for it."""

    root: Digest
    barred: bytes
    disclosed: tuple[Disclosed, ...]


class MaskedInput(_Message, tag="masked_input", frozen=True):
    """A device's vector under its masks, packed."""

    root: Digest
    sender: Index
    vector: memoryview  # of the message it came in: it is not copied
    signature: Signature

    def payload(self, context: bytes, barred: bytes = b"") -> bytes:
        """What is signed.

        Args:
            context: of the session.
            barred: which of the sender's neighbours are barred, a bitmap over their places; nothing where none is. It
                is not sent: a device that was not told masks with them, and its signature shows that.
        """
        told = (barred,) if barred else ()
        return digest("masked_input", context, self.root, _number(self.sender), self.vector, *told)


class Survivors(_Message, tag="survivors", frozen=True):
    """Whose input came: a bitmap over the roster."""

    root: Digest
    survivors: bytes

    def payload(self, context: bytes) -> bytes:
        return digest("survivors", context, self.root, self.survivors)


class Consistency(_Message, tag="consistency", frozen=True):
    """A device's signature of the one set of survivors it was told."""

    root: Digest
    sender: Index
    signature: Signature


class Signatures(_Message, tag="signatures", frozen=True):
    """Signatures of the set of survivors by the receiver's neighbours, by place, behind them by the committee; empty where
    one did not sign."""

    root: Digest
    survivors: bytes
    signatures: tuple[SignatureOrNone, ...]


class Unmask(_Message, tag="unmask", frozen=True):
    """For each neighbour, by place, one share: of its self-mask if it survived, of its masking key if it vanished."""

    root: Digest
    sender: Index
    shares: tuple[Share, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("unmask", context, self.root, _number(self.sender), *self.shares)


FromDevice = Advertise | Shares | Complaint | Disclosure | MaskedInput | Consistency | Unmask
FromServer = Roster | Mailbox | Accusation | Settlement | Survivors | Signatures

_FRAME = 256  # more than all that surrounds the parts whose lengths vary


def encode(message: _Message | bytes) -> bytes:
    """The one form of a message in bytes."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes, kind: Any, maximum: int, phase: str) -> Any:
    """The message `data` holds.

    Args:
        data: as it came.
        kind: one of the messages, or a union of them.
        most: the longest it may be.
        stage: of the party that got it, for the error.

    Raises:
        MessageRefused: it is too long, not such a message, or not in its one form.
    """
    if len(data) > maximum:
        raise MessageRefused(
            phase, given=f"{len(data)} bytes", expected=f"at most {maximum}", do="Do not send it again."
        )
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageRefused(
            phase,
            given=f"bytes that are no message ({type(error).__name__})",
            expected="a message of this protocol",
            do="Send what `encode` makes.",
        ) from None
    if not _usual(message, data):
        raise MessageRefused(
            phase,
            given=f"{message!r} in an unusual form",
            expected="the one form `encode` makes",
            do="Send what `encode` makes.",
        )
    return message


def _usual(message: Any, data: bytes) -> bool:
    """Whether bytes are the one form of the message they were decoded to."""
    if not isinstance(message, MaskedInput):
        return encode(message) == data
    # Without a copy of the vector: what is before it, its length, and what is behind it.
    fields = message.root, message.sender
    empty = encode(MaskedInput(*fields, memoryview(b""), message.signature))
    tail = len(encode(message.signature))
    head = empty[: -tail - len(encode(b""))]
    length = len(message.vector)
    width = 1 if length < 1 << 8 else 2 if length < 1 << 16 else 4
    size = {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}[width] + length.to_bytes(width, "big")
    return data[: len(head) + len(size)] == head + size and data[-tail:] == empty[-tail:]


def decode_kept(data: bytes, kind: Any) -> Any:
    """A message this party has accepted before, from its own log.

    Raises:
        RunDamaged: it is none.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunDamaged(
            "a log of a secure sum",
            given=f"a record that is no message ({type(error).__name__})",
            expected="what was accepted",
            do="Begin a new session: this log was changed.",
        ) from None


def entry_bytes(*, named: bool) -> int:
    """The length of a roster's entries."""
    return HASH_BYTES + (NAME_BYTES if named else 0)


def maximum_bytes(vector_bytes: int, devices: int, degree: int, *, named: bool = False) -> int:
    """The longest message of a session with so many devices and neighbours, a committee counted with these: what a decoder
    accepts."""
    adverts = degree * (5 * 34 + 66 + 16)
    return _FRAME + max(
        vector_bytes, entry_bytes(named=named) * devices + adverts, degree * (SEALED_BYTES + 3)
    )


def complaint_payload(context: bytes, root: bytes, complainer: int, sealer: int, sealed: bytes) -> bytes:
    """What a device signs that cannot open `sealed`, which came to it as the shares of `sealer`."""
    return digest("complaint", context, root, _number(complainer), _number(sealer), sealed)


def disclosure_payload(context: bytes, root: bytes, sealer: int, complainer: int, pair: bytes) -> bytes:
    """What `sealer` signs of the two shares that it meant for `complainer`."""
    return digest("disclosure", context, root, _number(sealer), _number(complainer), pair)


def is_pair(data: bytes | None) -> bool:
    """Whether bytes could be the two shares that are sealed for a neighbour."""
    return (
        data is not None
        and len(data) == PAIR_BYTES
        and is_share(data[:SHARE_BYTES])
        and is_share(data[SHARE_BYTES:])
    )


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
