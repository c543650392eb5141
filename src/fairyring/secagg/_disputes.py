"""Complaints of sealed shares, as the server settles them: whoever sealed what does not open discloses it, or is barred.

A device that cannot open a neighbour's shares signs a complaint of the very bytes it was given. The neighbour then gives
those two shares where anyone can read them, signed, and the complainer holds them from there on; or it does not, and is
barred, as if it had never sent shares. Nobody need know who is right. If the sealer is honest, what it sealed opens for
every honest device: the complainer is not, and what is disclosed it had already. If the complainer is honest, the sealer
is not, and has no secret to keep. So a device that is there and answers cannot be barred by anyone.
"""

from collections.abc import Callable, Mapping, Sequence

from fairyring.secagg._suite import bitmap, verified
from fairyring.secagg.messages import (
    PAIR_BYTES,
    Accusation,
    Complaint,
    Disclosure,
    Settlement,
    complaint_payload,
    disclosure_payload,
    is_pair,
)


class Disputes:
    """The complaints of one session, between devices by their indices.

    Args:
        context: of the session.
        root: of its roster.
        identities: of all devices, by index.
        neighbours: index -> indices of a device's neighbours, by place.

    Attributes:
        accused: sealers that were complained of when complaints were closed.
        barred: those of them that had not disclosed when disclosures were closed.
    """

    def __init__(
        self,
        context: bytes,
        root: bytes,
        identities: Sequence[bytes],
        neighbours: Callable[[int], list[int]],
    ) -> None:
        self._context, self._root = context, root
        self._identities, self._neighbours = identities, neighbours
        self._complaints: dict[int, dict[int, bytes]] = {}  # complainer -> sealer -> signature
        self._accusers: dict[
            int, dict[int, bytes]
        ] = {}  # the same the other way round, once complaints are closed
        self._disclosed: dict[int, dict[int, bytes]] = {}  # complainer -> sealer -> shares and signature
        self._answered: dict[int, Disclosure] = {}
        self.accused: set[int] = set()
        self.barred: set[int] = set()

    def may_complain(self, message: Complaint, sealed: Callable[[int], bytes]) -> bool:
        """Whether every complaint is signed, and of what its sender was given: `sealed(sealer)`, which may be nothing."""
        near = self._neighbours(message.sender)
        if len(message.complaints) != len(near) or not any(message.complaints):
            return False
        for sealer, signature in zip(near, message.complaints, strict=True):
            if not signature:
                continue
            entry = sealed(sealer)
            payload = complaint_payload(self._context, self._root, message.sender, sealer, entry)
            if not entry or not verified(self._identities[message.sender], signature, payload):
                return False
        return True

    def complain(self, message: Complaint, *, counts: bool) -> None:
        """Take in a complaint, which counts unless its sender contradicted itself."""
        self._complaints.pop(message.sender, None)
        if counts:
            given = zip(self._neighbours(message.sender), message.complaints, strict=True)
            self._complaints[message.sender] = {sealer: signature for sealer, signature in given if signature}

    def close_complaints(self) -> None:
        """Settle who was complained of."""
        for complainer, signatures in self._complaints.items():
            for sealer, signature in signatures.items():
                self._accusers.setdefault(sealer, {})[complainer] = signature
        self.accused = set(self._accusers)

    def may_disclose(self, message: Disclosure) -> bool:
        """Whether the shares that were complained of are all there, and no others, each signed."""
        near, due = self._neighbours(message.sender), self._accusers.get(message.sender, {})
        if len(message.disclosed) != len(near) or not due:
            return False
        for other, entry in zip(near, message.disclosed, strict=True):
            pair, signature = entry[:PAIR_BYTES], entry[PAIR_BYTES:]
            payload = disclosure_payload(self._context, self._root, message.sender, other, pair)
            if bool(entry) != (other in due):
                return False
            if entry and not (
                is_pair(pair) and verified(self._identities[message.sender], signature, payload)
            ):
                return False
        return True

    def disclose(self, message: Disclosure, *, counts: bool) -> None:
        """Take in what was disclosed, which counts unless its sender contradicted itself."""
        self._answered.pop(message.sender, None)
        if counts:
            self._answered[message.sender] = message

    def close_disclosures(self) -> None:
        """Settle who is barred."""
        self.barred = self.accused - self._answered.keys()
        for sealer, message in self._answered.items():
            for complainer, entry in zip(self._neighbours(sealer), message.disclosed, strict=True):
                if entry:
                    self._disclosed.setdefault(complainer, {})[sealer] = entry

    def disclosed(self, complainer: int, sealer: int) -> bytes:
        """The two shares that a sealer signed for whoever complained of it; nothing where there was no such complaint."""
        return self._disclosed.get(complainer, {}).get(sealer, b"")[:PAIR_BYTES]

    def concerns(self, index: int) -> bool:
        """Whether a device is told of the settlement."""
        return index in self._complaints or not self.barred.isdisjoint(self._neighbours(index))

    def barred_near(self, index: int) -> bytes:
        """Which of a device's neighbours are barred: a bitmap over their places, or nothing where none is."""
        if not self.barred:
            return b""
        near = self._neighbours(index)
        places = [place for place, other in enumerate(near) if other in self.barred]
        return bitmap(places, len(near)) if places else b""

    def accusation(self, index: int) -> Accusation:
        """What was complained of a device."""
        return Accusation(self._root, self._by_place(index, self._accusers[index]))

    def settlement(self, index: int) -> Settlement:
        """What a device is told of the end of it."""
        barred = self.barred_near(index) or bitmap((), len(self._neighbours(index)))
        return Settlement(self._root, barred, self._by_place(index, self._disclosed.get(index, {})))

    def _by_place(self, index: int, entries: Mapping[int, bytes]) -> tuple[bytes, ...]:
        return tuple(entries.get(other, b"") for other in self._neighbours(index))
