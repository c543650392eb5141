"""Complaints about sealed shares, as the server settles them: the sealer discloses the shares, or it is barred.

A device that cannot open a neighbour's shares signs a complaint about the exact bytes it was given. The neighbour then
discloses those two shares, signed and readable by anyone, and the complainer keeps them. A neighbour that does not
disclose them is barred, as if it had never sent shares.

Nobody needs to know who is right. If the sealer is honest, every honest device can open what it sealed; so the complainer
is dishonest, and already had what is disclosed. If the complainer is honest, the sealer is dishonest, and its secret needs
no protection. So nobody can get a device barred that is present and answers.
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
        context: the session's context.
        root: digest of its roster.
        identities: identities of all devices, by index.
        neighbours: function from a device's index to the indices of its neighbours, by place.

    Attributes:
        accused: the sealers with complaints against them when complaints were closed.
        barred: those of the accused that had not disclosed their shares when disclosures were closed.
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
        """Whether every complaint is signed, and is about what its sender was given.

        `sealed(sealer)` is what it was given by a sealer; empty if nothing.
        """
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
        """Add a complaint; `counts` is false if its sender contradicted itself."""
        self._complaints.pop(message.sender, None)
        if counts:
            given = zip(self._neighbours(message.sender), message.complaints, strict=True)
            self._complaints[message.sender] = {sealer: signature for sealer, signature in given if signature}

    def close_complaints(self) -> None:
        """End the time for complaints."""
        for complainer, signatures in self._complaints.items():
            for sealer, signature in signatures.items():
                self._accusers.setdefault(sealer, {})[complainer] = signature
        self.accused = set(self._accusers)

    def may_disclose(self, message: Disclosure) -> bool:
        """Whether the message discloses exactly the shares in dispute, each signed."""
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
        """Add a disclosure; `counts` is false if its sender contradicted itself."""
        self._answered.pop(message.sender, None)
        if counts:
            self._answered[message.sender] = message

    def close_disclosures(self) -> None:
        """End the time for disclosures."""
        self.barred = self.accused - self._answered.keys()
        for sealer, message in self._answered.items():
            for complainer, entry in zip(self._neighbours(sealer), message.disclosed, strict=True):
                if entry:
                    self._disclosed.setdefault(complainer, {})[sealer] = entry

    def disclosed(self, complainer: int, sealer: int) -> bytes:
        """The two shares that a sealer disclosed for a complainer; empty if there was no such complaint."""
        return self._disclosed.get(complainer, {}).get(sealer, b"")[:PAIR_BYTES]

    def concerns(self, index: int) -> bool:
        """Whether a device must be told of the settlement."""
        return index in self._complaints or not self.barred.isdisjoint(self._neighbours(index))

    def barred_near(self, index: int) -> bytes:
        """Which of a device's neighbours are barred: a bitmap over their places; empty if none is."""
        if not self.barred:
            return b""
        near = self._neighbours(index)
        places = [place for place, other in enumerate(near) if other in self.barred]
        return bitmap(places, len(near)) if places else b""

    def accusation(self, index: int) -> Accusation:
        """The complaints against a device."""
        return Accusation(self._root, self._by_place(index, self._accusers[index]))

    def settlement(self, index: int) -> Settlement:
        """How the disputes that concern a device were settled."""
        barred = self.barred_near(index) or bitmap((), len(self._neighbours(index)))
        return Settlement(self._root, barred, self._by_place(index, self._disclosed.get(index, {})))

    def _by_place(self, index: int, entries: Mapping[int, bytes]) -> tuple[bytes, ...]:
        return tuple(entries.get(other, b"") for other in self._neighbours(index))
