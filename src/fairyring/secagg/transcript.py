"""The public record of a session, which anyone can check afterwards. It contains no secrets."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from fairyring.core.errors import PlanError, SecureSumError
from fairyring.core.packing import pack_words
from fairyring.secagg._suite import digest, members, verified
from fairyring.secagg.graph import Ring
from fairyring.secagg.messages import Advertise, Index, Signature, Survivors, decode
from fairyring.secagg.terms import Digest, Session, Terms


class Transcript(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public record of a session.

    Attributes:
        terms, round, model: what the session was about.
        beacon: the public randomness of the roster.
        adverts: every device's advert, as it was received, by index.
        holders: the devices that sent shares: a bitmap over the adverts.
        survivors: the devices whose vectors are in the sum: a bitmap over the adverts.
        signatures: `(index, signature)` of the devices that signed the set of survivors.
        count: number of vectors in the sum.
        result: digest of the sum and of both sets.
        previous: head of the history before the session; None if no history was kept.
    """

    terms: Terms
    round: Annotated[int, Meta(ge=0)]
    model: Digest
    beacon: Annotated[bytes, Meta(max_length=64)]
    adverts: tuple[bytes, ...]
    holders: bytes
    survivors: bytes
    signatures: tuple[tuple[Index, Signature], ...]
    count: int
    result: Digest
    previous: Digest | None = None

    @property
    def session(self) -> Session:
        """The session this is the record of."""
        return Session(self.terms, self.round, self.model, self.previous)


def result_hash(session: Session, root: bytes, holders: bytes, survivors: bytes, vector: np.ndarray) -> bytes:
    """Digest of a sum `[terms.length]`, bound to its session and to both sets."""
    packed = pack_words(vector, session.terms.modulus_bits)
    return digest("result", session.context, root, holders, survivors, packed)


def verify(transcript: Transcript, vector: np.ndarray | None = None) -> None:
    """Check a transcript: hashes, signatures, sets, thresholds, and the sum itself if it is given.

    This shows that the survivors of the session signed one set, including enough neighbours of each and enough of the
    committee, and that the sum is the one the server stated at the time. It does not show that the identities belong
    to different people.

    Args:
        transcript: what the server published.
        vector: the sum, `[terms.length]`.

    Raises:
        SecureSumError: something does not hold; the error says what.
    """
    session = transcript.session
    terms, context = transcript.terms, session.context
    adverts = [decode(data, Advertise, 1 << 10, "transcript") for data in transcript.adverts]
    devices = len(adverts)
    _require(
        terms.minimum_cohort <= devices <= terms.maximum_cohort,
        f"{devices} devices",
        f"{terms.minimum_cohort} to {terms.maximum_cohort}",
    )
    hashes = [advert.hash(context) for advert in adverts]
    _require(hashes == sorted(set(hashes)), "adverts out of order or repeated", "hashes that ascend")
    _require(
        len({advert.identity for advert in adverts}) == devices, "the same identity twice", "distinct devices"
    )
    for advert in adverts:
        _require(
            verified(advert.identity, advert.signature, advert.payload(context)),
            "an advert with a forged signature",
            "one signed by its identity, for this plan, round and model",
        )
    try:
        graph = terms.graph(devices)
    except PlanError as error:
        raise SecureSumError("transcript", given=error.given, expected=error.expected, do=error.do) from error
    entries = [advert.entry(context, named=terms.sparse) for advert in adverts]
    root = digest("roster", context, transcript.beacon, *entries)
    ring = Ring(root, transcript.beacon, hashes, graph.degree)
    sets = members(transcript.holders, devices), members(transcript.survivors, devices)
    _require(None not in sets, "a malformed set", "one bit per device")
    holders, survivors = (set(s or ()) for s in sets)
    _require(survivors <= holders, "a survivor that sent no shares", "survivors among those that did")
    _require(len(survivors) == transcript.count, f"a count of {transcript.count}", f"{len(survivors)}")
    _require(
        len(survivors) >= terms.minimum_cohort,
        f"{len(survivors)} survivors",
        f"at least {terms.minimum_cohort}",
    )
    payload = Survivors(root, transcript.survivors).payload(context)
    signed = set()
    for index, signature in transcript.signatures:
        _require(
            index in survivors and index not in signed,
            "a signature by a device that is no survivor, or a second one",
            "one per survivor",
        )
        _require(
            verified(adverts[index].identity, signature, payload),
            "a forged signature of the survivors",
            "one by the device itself",
        )
        signed.add(index)
    committee = terms.committee(devices)
    agreed = sum(index in signed for index in ring.committee(committee.size))
    _require(
        agreed >= committee.threshold,
        f"{agreed} members of the committee that signed",
        f"at least {committee.threshold}",
    )
    for index in survivors:
        # Its self-mask was removed only if a threshold of its neighbours answered, and each of them checked signatures first.
        near = sum(other in signed for other in ring.neighbours(index))
        _require(
            near >= graph.threshold,
            f"{near} neighbours of a survivor that signed",
            f"at least {graph.threshold}",
        )
    if vector is not None:
        _require(
            result_hash(session, root, transcript.holders, transcript.survivors, vector) == transcript.result,
            "another sum",
            "the sum the server stated",
        )


def _require(holds: bool, given: str, expected: str) -> None:
    if not holds:
        raise SecureSumError(
            "transcript",
            given=given,
            expected=expected,
            do="Do not trust this session: its record was changed or invented.",
        )
