"""What a server has collected in a session, and what it concludes when a phase ends.

The state follows from the accepted messages alone: replaying them in order gives the same state. Each `add_*` method
takes in one kind of message, and each `freeze_*` method ends a phase: it settles a set and returns it as bytes for the
log. `_phases.TRANSITIONS` says when each is called.
"""

from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import MessageRefused, SessionAborted
from fairyring.secagg._disputes import Disputes
from fairyring.secagg._phases import Phase
from fairyring.secagg._suite import bitmap, digest
from fairyring.secagg._unmasking import Known, Unrecovered, total
from fairyring.secagg.graph import GraphParameters, Ring
from fairyring.secagg.keystream import word_of
from fairyring.secagg.log import Log
from fairyring.secagg.messages import (
    HASH_BYTES,
    Advertise,
    Complaint,
    Consistency,
    Disclosure,
    MaskedInput,
    Shares,
    Survivors,
    Unmask,
    encode,
)
from fairyring.secagg.terms import Session
from fairyring.secagg.transcript import Transcript, result_hash


@dataclass(frozen=True)
class Result:
    """The outcome of a session.

    Attributes:
        sum: sum of the survivors' vectors modulo `2**modulus_bits`: unsigned `[terms.length]`.
        count: number of vectors in the sum.
        transcript: what anyone can check afterwards.
    """

    sum: np.ndarray
    count: int
    transcript: Transcript


class State:
    """A server's state in one session. Devices are known by their index in the roster.

    Args:
        session: the session.
        log: the session's log, from which masked inputs are read when they are summed.

    Attributes:
        phase: what the server waits for.
        result: the result once the session is done, otherwise None.
        adverts: identity -> advert, until the roster is frozen.
        keys: the public keys in all adverts.
        roster: the adverts in the order of their hashes.
        index: identity -> index in the roster.
        entries: the roster's entries, as devices see them.
        beacon: public randomness for the ring.
        root: digest of the roster.
        graph: degree and threshold of the neighbour graph.
        holders: devices that sent shares and were not barred.
        disputes: complaints about sealed shares.
        inputs: device -> number of the log record that holds its masked input.
        survivors: devices whose input arrived in time, ascending.
        agreed: what devices sign to confirm that set.
        signed: device -> its signature of that set.
        askable: survivors with enough signatures around them to unmask.
        liars: devices to which wrong shares were attributed.
    """

    def __init__(self, session: Session, log: Log) -> None:
        self.session, self._log = session, log
        self.phase, self.result = Phase.ADVERTISING, None
        self.adverts: dict[bytes, Advertise] = {}
        self.keys: set[bytes] = set()
        self.roster: list[Advertise] = []
        self.index: dict[bytes, int] = {}
        self.entries: list[bytes] = []
        self.beacon = self.root = b""
        self.graph = GraphParameters(0, 0)
        self._ring: Ring | None = None
        self.sealed: dict[int, tuple[bytes, ...]] = {}
        self.holders: set[int] = set()
        self.disputes = Disputes(b"", b"", (), self.neighbours)
        self.inputs: dict[int, int] = {}
        self.survivors: list[int] = []
        self.agreed = b""
        self.signed: dict[int, bytes] = {}
        self.askable: list[int] = []
        self._shares: dict[int, tuple[bytes, ...]] = {}
        self.liars: set[int] = set()

    # -- one message: it counts unless its sender contradicted itself ------------------------------------------

    def add_advert(self, advert: Advertise, number: int, counts: bool) -> None:
        known = self.adverts.pop(advert.identity, None)
        if known is not None:
            self.keys -= {known.encryption_key, known.masking_key}
        if counts:
            self.adverts[advert.identity] = advert
            self.keys |= {advert.encryption_key, advert.masking_key}

    def add_shares(self, message: Shares, number: int, counts: bool) -> None:
        self.sealed.pop(message.sender, None)
        if counts:
            self.sealed[message.sender] = message.sealed

    def add_complaint(self, message: Complaint, number: int, counts: bool) -> None:
        self.disputes.complain(message, counts=counts)

    def add_disclosure(self, message: Disclosure, number: int, counts: bool) -> None:
        self.disputes.disclose(message, counts=counts)

    def add_input(self, message: MaskedInput, number: int, counts: bool) -> None:
        self.inputs.pop(message.sender, None)
        if counts:
            self.inputs[message.sender] = number

    def add_signature(self, message: Consistency, number: int, counts: bool) -> None:
        self.signed.pop(message.sender, None)
        if counts:
            self.signed[message.sender] = message.signature

    def add_unmasking(self, message: Unmask, number: int, counts: bool) -> None:
        self._shares.pop(message.sender, None)
        if counts:
            self._shares[message.sender] = message.shares

    # -- the end of a phase ------------------------------------------------------------------------------------

    def freeze_roster(self) -> bytes:
        context, adverts = self.session.context, self.adverts.values()
        devices = len(adverts)
        self._require_cohort(devices, "devices")
        self.roster = sorted(adverts, key=lambda advert: advert.hash(context))
        named = self.session.terms.sparse
        self.entries = [advert.entry(context, named=named) for advert in self.roster]
        self.index = {advert.identity: index for index, advert in enumerate(self.roster)}
        self.graph = self.session.terms.graph(devices)
        self.root = digest("roster", context, self.beacon, *self.entries)
        hashes = [entry[:HASH_BYTES] for entry in self.entries]
        self._ring = Ring(self.root, self.beacon, hashes, self.graph.degree)
        identities = [advert.identity for advert in self.roster]
        self.disputes = Disputes(context, self.root, identities, self.neighbours)
        return self.root

    def freeze_holders(self) -> bytes:
        self.holders = set(self.sealed)
        self._require_cohort(len(self.holders), "devices that sent shares")
        return bitmap(self.holders, len(self.roster))

    def freeze_complaints(self) -> bytes:
        self.disputes.close_complaints()
        return bitmap(self.disputes.accused, len(self.roster))

    def freeze_barred(self) -> bytes:
        self.disputes.close_disclosures()
        self.holders -= self.disputes.barred
        self._require_cohort(len(self.holders), "devices whose shares opened")
        return bitmap(self.disputes.barred, len(self.roster))

    def freeze_survivors(self) -> bytes:
        self.survivors = sorted(self.inputs)
        self.agreed = self.survivors_message().payload(self.session.context)
        self.sealed.clear()  # every mailbox has been sent
        self._require_cohort(len(self.survivors), "devices whose input arrived")
        return bitmap(self.survivors, len(self.roster))

    def freeze_signers(self) -> bytes:
        threshold = self.graph.threshold
        self.askable = [
            index
            for index in self.survivors
            if index in self.signed
            and sum(neighbour in self.signed for neighbour in self.neighbours(index)) >= threshold
        ]
        agreeing = sum(1 for signature in self.committee_signatures() if signature)
        needed = self.session.terms.committee(len(self.roster)).threshold
        if agreeing < needed:
            raise self._abort(f"{agreeing} committee members that signed", f"at least {needed}")
        if len(self.askable) < threshold:
            raise self._abort(
                f"{len(self.askable)} devices with enough signatures around them", f"at least {threshold}"
            )
        return bitmap(self.askable, len(self.roster))

    def finish(self) -> bytes:
        summed = self.total()
        terms = self.session.terms
        count = len(self.survivors)
        word = word_of(terms.modulus_bits)
        expected = (self.session.check * word(count % (1 << terms.modulus_bits))) & self.session.mask
        if not np.array_equal(summed[terms.length :], expected):
            raise self._abort(
                "a sum whose check numbers are wrong: some device trained from another model, or lied",
                "masks that cancel",
            )
        vector = summed[: terms.length].copy()
        sets = bitmap(self.holders, len(self.roster)), bitmap(self.survivors, len(self.roster))
        transcript = Transcript(
            terms,
            self.session.round,
            self.session.model,
            self.beacon,
            tuple(encode(advert) for advert in self.roster),
            *sets,
            tuple(sorted(self.signed.items())),
            count,
            result_hash(self.session, self.root, *sets, vector),
            self.session.previous,
        )
        self.result = Result(vector, count, transcript)
        return transcript.result

    def total(self) -> np.ndarray:
        """The sum of the survivors' inputs with every mask removed, check numbers included."""
        assert self._ring is not None
        known = Known(
            self.session,
            self.root,
            self.graph.threshold,
            self._ring,
            self.roster,
            self.holders,
            self.survivors,
            self._shares,
            self.disputes.disclosed,
        )
        try:
            summed, liars = total(
                known, (self._log.read(self.inputs[index]).data for index in self.survivors)
            )
        except Unrecovered as error:
            raise self._abort(error.given, error.expected) from None
        self.liars = liars
        return summed

    # -- what follows from it ----------------------------------------------------------------------------------

    def refusal(self, given: str, expected: str, do: str) -> MessageRefused:
        """The error that refuses a message in this phase."""
        return MessageRefused(self.phase, given=given, expected=expected, do=do)

    def _abort(self, given: str, expected: str) -> SessionAborted:
        return SessionAborted(
            self.phase, given=given, expected=expected, do="No sum is released. Start a new session."
        )

    def _require_cohort(self, devices: int, what: str) -> None:
        if devices < self.session.terms.minimum_cohort:
            raise self._abort(f"{devices} {what}", f"at least {self.session.terms.minimum_cohort}")

    def payload(self, message: Advertise | Consistency | MaskedInput | Shares | Unmask) -> bytes:
        """The bytes that a message's signature covers."""
        if isinstance(message, Consistency):
            return self.agreed
        if isinstance(message, MaskedInput):
            return message.payload(self.session.context, self.disputes.barred_near(message.sender))
        return message.payload(self.session.context)

    def entry(self, holder: int, owner: int) -> bytes:
        """The shares that `owner` sealed for `holder`; empty if there are none."""
        sealed = self.sealed.get(owner)
        if not sealed:
            return b""
        assert self._ring is not None
        return sealed[self._ring.place(holder, owner) - 1]

    def survivors_message(self) -> Survivors:
        return Survivors(self.root, bitmap(self.survivors, len(self.roster)))

    def neighbours(self, index: int) -> list[int]:
        """Indices of a device's neighbours, by place."""
        assert self._ring is not None
        return self._ring.neighbours(index)

    @property
    def committee(self) -> list[int]:
        """Indices of the committee's members."""
        assert self._ring is not None
        return self._ring.committee(self.session.terms.committee(len(self.roster)).size)

    def committee_signatures(self) -> tuple[bytes, ...]:
        """The committee's signatures of the survivors, by member: as many as a device checks, the others empty."""
        committee = self.committee
        signed = [index for index in committee if index in self.signed]
        chosen = set(signed[: self.session.terms.committee(len(self.roster)).threshold])
        return tuple(self.signed[index] if index in chosen else b"" for index in committee)
