"""Sessions with devices that seal what does not open, make up for it or not, and complain of what does."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from fairyring.secagg._suite import derive, seal
from fairyring.secagg.messages import (
    PAIR_BYTES,
    SEALED_BYTES,
    Accusation,
    Complaint,
    Disclosure,
    Mailbox,
    Shares,
    complaint_payload,
    decode_kept,
    disclosure_payload,
    encode,
)
from tests.secagg.driving import Play, identity, small_terms, vectors_of

NO_SHARES = b"\xff" * PAIR_BYTES  # no elements of the field


def signed(message: Any, number: int, context: bytes) -> Any:
    """The same message, signed by device `number`."""
    return msgspec.structs.replace(message, signature=identity(number).sign(message.payload(context)))


class Spoiled(Play):
    """A session in which some devices lie about shares.

    Args:
        terms, vectors: as of any.
        garbage: device -> those it seals garbage for; None for everyone.
        opens: whether that garbage opens, to what are no shares.
        sorry: devices that then disclose shares after all.
        liars: device -> those it complains of, though their shares open.
    """

    def __init__(
        self,
        terms: Any,
        vectors: Any,
        garbage: Mapping[int, Collection[int] | None] | None = None,
        *,
        opens: bool = False,
        sorry: Collection[int] = (),
        liars: Mapping[int, Collection[int]] | None = None,
        **named: Any,
    ) -> None:
        self.garbage, self.opens, self.sorry, self.liars = dict(garbage or {}), opens, set(sorry), liars or {}
        super().__init__(terms, vectors, **named)

    def changed(self, i: int, event: str, answer: bytes | None) -> bytes | None:
        if event == "roster" and i in self.garbage and answer is not None:
            return self.spoilt(i, answer)
        if event == "mailbox" and i in self.liars:
            return self.lie(i)
        return answer

    def _device(self, i: int, event: str, act: Any) -> bytes | None:
        if event == "accusation" and i in self.sorry:
            return self.amends(i)
        if event == "settlement" and i in self.liars:
            return None  # its machine has complained of nothing, and would leave
        return super()._device(i, event, act)

    def near(self, i: int) -> list[int]:
        """Numbers of a device's neighbours, by place."""
        server = self.server
        return [
            self.number[server._state.roster[j].identity]
            for j in server._state.neighbours(server._state.index[identity(i).public])
        ]

    def index(self, i: int) -> int:
        return self.server._state.index[identity(i).public]

    def spoilt(self, i: int, answer: bytes) -> bytes:
        """A device's shares with some entries made garbage."""
        shares = decode_kept(answer, Shares)
        victims = self.garbage[i]
        sealed = list(shares.sealed)
        for place, other in enumerate(self.near(i)):
            if victims is None or other in victims:
                sealed[place] = bytes([i]) * SEALED_BYTES
                if self.opens:
                    sealed[place] = seal(self.envelope(i, other), NO_SHARES, shares.root)
        changed = msgspec.structs.replace(shares, sealed=tuple(sealed))
        return encode(signed(changed, i, self.session.context))

    def envelope(self, sealer: int, receiver: int) -> bytes:
        """The key of what one device seals for another."""
        keys = self.devices[sealer]._memory.keys
        assert keys is not None
        other = self.server._state.roster[self.index(receiver)].encryption_key
        ends = (self.index(one).to_bytes(8, "little") for one in (sealer, receiver))
        agreed = keys.encryption.agree(other)
        return derive(agreed, self.server._state.root, b"envelope", self.session.context, *ends)

    def complaint(self, i: int, of: Collection[int], mailbox: bytes) -> bytes:
        """A complaint by a device of others, of what its mailbox holds of them."""
        root, context = self.server._state.root, self.session.context
        sealed = decode_kept(mailbox, Mailbox).sealed
        signatures = tuple(
            identity(i).sign(complaint_payload(context, root, self.index(i), self.index(other), entry))
            if other in of
            else b""
            for other, entry in zip(self.near(i), sealed, strict=True)
        )
        return encode(signed(Complaint(root, self.index(i), signatures, bytes(64)), i, context))

    def lie(self, i: int) -> bytes:
        return self.complaint(i, self.liars[i], self.delivered[i, "opening"])

    def amends(self, i: int) -> bytes:
        """A sealer's disclosure of the shares it should have sealed."""
        device, root, context = self.devices[i], self.server._state.root, self.session.context
        accusation = decode_kept(self.delivered[i, "disclosing"], Accusation)
        assert device._memory.keys is not None
        assert device._memory.roll is not None
        entries = device._steps._sealed(
            device._memory.keys, device._memory.roll, range(len(accusation.complaints))
        )
        given = tuple(
            pair + identity(i).sign(disclosure_payload(context, root, self.index(i), self.index(other), pair))
            if asked
            else b""
            for other, asked, (pair, _) in zip(
                self.near(i), accusation.complaints, entries.values(), strict=True
            )
        )
        return encode(signed(Disclosure(root, self.index(i), given, bytes(64)), i, context))


def spoiled(devices: int, garbage: Any = None, *, threat: str = "semi_honest", **named: Any) -> Spoiled:
    """A session at rates of a tenth each, which has yet to begin."""
    terms = small_terms(devices, threat=threat, adversarial=0.1, dropout=0.1)
    return Spoiled(terms, vectors_of(devices, terms), garbage, **named)
