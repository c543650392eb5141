"""The messages of a secure sum, their encoding, and the largest size of each.

A message is a MessagePack array whose first element says which message it is. It is accepted only if it is not longer
than any honest message, and only if encoding it again gives the same bytes. Signatures and hashes cover the fields as
they were received.

    device                                server
      Advertise ---------------------->            fresh keys, signed
                <---------------------- Roster     everyone's entries, the neighbours' adverts
      Shares    ---------------------->            sealed for each neighbour
                <---------------------- Mailbox    what the neighbours sealed
      Complaint ---------------------->            only if some of it does not open: signed, about that entry
                <---------------------- Accusation only to neighbours with complaints against them
      Disclosure --------------------->            the shares in question, for anyone to read
                <---------------------- Settlement only to those concerned: who is barred, and what was disclosed
      MaskedInput -------------------->            the vector and all masks
                <---------------------- Survivors  whose input arrived
      Consistency -------------------->            a signature of this set, and of no other
                <---------------------- Signatures enough neighbours and committee members signed the same set
      Unmask    ---------------------->            one share per neighbour
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
NAME_BYTES = 16  # of an identity: nobody can make another that begins with the same bytes
# A device's share of one neighbour's secret; empty if it holds none.
Share = Annotated[bytes, Meta(max_length=SHARE_BYTES)]
Sealed = Annotated[bytes, Meta(max_length=SEALED_BYTES)]
# One per neighbour, by place; empty if none is due.
SignatureOrNone = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES)]
# A pair of shares, and a signature.
Disclosed = Annotated[bytes, Meta(max_length=PAIR_BYTES + SIGNATURE_BYTES)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    def __repr__(self) -> str:
        return type(self).__name__  # its fields may be secret


class Advertise(_Message, tag="advertise", frozen=True):
    """A device's keys for one session."""

    identity: Key
    encryption_key: Key
    masking_key: Key
    nonce: Key
    commitment: Key  # to the seed of its self-mask
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        """The bytes that are signed."""
        fields = (self.identity, self.encryption_key, self.masking_key, self.nonce, self.commitment)
        return digest("advertise", context, *fields)

    def hash(self, context: bytes) -> bytes:
        """The hash that stands for this advert in the roster."""
        return digest("advert", context, self.payload(context), self.signature)

    def entry(self, context: bytes, *, named: bool) -> bytes:
        """This advert's entry in the roster: its hash and, if not every device sees the advert, the start of its identity."""
        return self.hash(context) + (self.identity[:NAME_BYTES] if named else b"")


class Roster(_Message, tag="roster", frozen=True):
    """Who takes part.

    `entries` are the entries of all adverts, ascending and concatenated. `neighbours` are the adverts of the receiver's
    neighbours, followed by those of the committee if there is one.
    """

    entries: bytes
    beacon: Annotated[bytes, Meta(max_length=64)]
    neighbours: tuple[Advertise, ...]


class Shares(_Message, tag="shares", frozen=True):
    """The sender's two secrets, shared: for each neighbour, by place, a sealed pair of shares."""

    root: Digest
    sender: Index
    sealed: tuple[Sealed, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("shares", context, self.root, _number(self.sender), *self.sealed)


class Mailbox(_Message, tag="mailbox", frozen=True):
    """What each neighbour, by place, sealed for the receiver; empty for neighbours that have vanished."""

    root: Digest
    sealed: tuple[Sealed, ...]


class Complaint(_Message, tag="complaint", frozen=True):
    """For each neighbour, by place, a signed complaint that its shares do not open; empty if they do."""

    root: Digest
    sender: Index
    complaints: tuple[SignatureOrNone, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("complaints", context, self.root, _number(self.sender), *self.complaints)


class Accusation(_Message, tag="accusation", frozen=True):
    """The complaints against the receiver, by the neighbours' places; empty for neighbours that did not complain."""

    root: Digest
    complaints: tuple[SignatureOrNone, ...]


class Disclosure(_Message, tag="disclosure", frozen=True):
    """For each neighbour that complained, by place, the two shares that were sealed for it, signed."""

    root: Digest
    sender: Index
    disclosed: tuple[Disclosed, ...]
    signature: Signature

    def payload(self, context: bytes) -> bytes:
        return digest("disclosures", context, self.root, _number(self.sender), *self.disclosed)


class Settlement(_Message, tag="settlement", frozen=True):
    """How disputes were settled: which of the receiver's neighbours are barred (a bitmap), and what was disclosed for it."""

    root: Digest
    barred: bytes
    disclosed: tuple[Disclosed, ...]


class MaskedInput(_Message, tag="masked_input", frozen=True):
    """A device's vector under its masks, packed."""

    root: Digest
    sender: Index
    vector: memoryview  # a view of the message it came in, not a copy
    signature: Signature

    def payload(self, context: bytes, barred: bytes = b"") -> bytes:
        """The bytes that are signed.

        Args:
            context: the session's context.
            barred: which of the sender's neighbours are barred: a bitmap over their places; empty if none is. It is not
                sent. The input of a device that was not told, and so masks with a barred one, has another signature.
        """
        extra = (barred,) if barred else ()
        return digest("masked_input", context, self.root, _number(self.sender), self.vector, *extra)


class Survivors(_Message, tag="survivors", frozen=True):
    """The devices whose input arrived: a bitmap over the roster."""

    root: Digest
    survivors: bytes

    def payload(self, context: bytes) -> bytes:
        return digest("survivors", context, self.root, self.survivors)


class Consistency(_Message, tag="consistency", frozen=True):
    """A device's signature of the set of survivors that it was told."""

    root: Digest
    sender: Index
    signature: Signature


class Signatures(_Message, tag="signatures", frozen=True):
    """Signatures of the set of survivors: by the receiver's neighbours, by place, then by the committee.

    The signature of a device that did not sign is empty.
    """

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

_FRAME = 256  # more than everything around the parts of variable length


def encode(message: _Message | bytes) -> bytes:
    """A message as bytes; there is exactly one encoding of each message."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes, kind: Any, maximum: int, phase: str) -> Any:
    """The message in `data`.

    Args:
        data: the bytes as they were received.
        kind: the expected message type, or a union of types.
        maximum: largest allowed number of bytes.
        phase: phase of the receiving party, for the error.

    Raises:
        MessageRefused: it is too long, not such a message, or not encoded as `encode` does.
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
            given=f"bytes that are not a message ({type(error).__name__})",
            expected="a message of this protocol",
            do="Encode it with `encode`.",
        ) from None
    if not _is_canonical(message, data):
        raise MessageRefused(
            phase,
            given=f"{message!r} in an unusual encoding",
            expected="the encoding that `encode` makes",
            do="Encode it with `encode`.",
        )
    return message


def _is_canonical(message: Any, data: bytes) -> bool:
    """Whether `data` is what `encode` makes of the message decoded from it."""
    if not isinstance(message, MaskedInput):
        return encode(message) == data
    # Without copying the vector: compare what is before it, its length, and what follows it.
    fields = message.root, message.sender
    empty = encode(MaskedInput(*fields, memoryview(b""), message.signature))
    tail = len(encode(message.signature))
    head = empty[: -tail - len(encode(b""))]
    length = len(message.vector)
    width = 1 if length < 1 << 8 else 2 if length < 1 << 16 else 4
    size = {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}[width] + length.to_bytes(width, "big")
    return data[: len(head) + len(size)] == head + size and data[-tail:] == empty[-tail:]


def decode_kept(data: bytes, kind: Any) -> Any:
    """A message that this party accepted earlier, from its own log.

    Raises:
        RunDamaged: the bytes are not such a message.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunDamaged(
            "a log of a secure sum",
            given=f"a record that is not a message ({type(error).__name__})",
            expected="a message that was accepted",
            do="Start a new session: this log was changed.",
        ) from None


def entry_bytes(*, named: bool) -> int:
    """Length of one entry in a roster."""
    return HASH_BYTES + (NAME_BYTES if named else 0)


def maximum_bytes(vector_bytes: int, devices: int, degree: int, *, named: bool = False) -> int:
    """The longest message in a session, which is what a decoder accepts.

    `degree` counts the neighbours and the committee; `named` is whether entries contain the start of the identity.
    """
    adverts = degree * (5 * 34 + 66 + 16)
    return _FRAME + max(
        vector_bytes, entry_bytes(named=named) * devices + adverts, degree * (SEALED_BYTES + 3)
    )


def complaint_payload(context: bytes, root: bytes, complainer: int, sealer: int, sealed: bytes) -> bytes:
    """What `complainer` signs if it cannot open `sealed`, the shares it was given as those of `sealer`."""
    return digest("complaint", context, root, _number(complainer), _number(sealer), sealed)


def disclosure_payload(context: bytes, root: bytes, sealer: int, complainer: int, pair: bytes) -> bytes:
    """What `sealer` signs when it discloses the two shares for `complainer`."""
    return digest("disclosure", context, root, _number(sealer), _number(complainer), pair)


def is_pair(data: bytes | None) -> bool:
    """Whether bytes are two elements of the field, as a sealed pair of shares is."""
    return (
        data is not None
        and len(data) == PAIR_BYTES
        and is_share(data[:SHARE_BYTES])
        and is_share(data[SHARE_BYTES:])
    )


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
