"""What a session leaves for anyone to check afterwards, without a secret in it."""

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
    """A session as anyone may check it.

    Attributes:
        terms, round, model: what was summed.
        beacon: the public randomness of its roster.
        adverts: everyone's advert, as it came, by index.
        holders: who sent shares: a bitmap over the adverts.
        survivors: whose vectors are in the sum.
        signatures: `(index, signature)`: who signed that set.
        count: how many vectors are in the sum.
        result: digest of the sum, and of both sets.
        previous: head of the history before it; None where none was kept.
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
        """The session it is of."""
        return Session(self.terms, self.round, self.model, self.previous)


def result_hash(session: Session, root: bytes, holders: bytes, survivors: bytes, vector: np.ndarray) -> bytes:
    """Digest of a sum `[terms.length]`, bound to its session and to the sets it came of."""
    packed = pack_words(vector, session.terms.modulus_bits)
    return digest("result", session.context, root, holders, survivors, packed)


def verify(transcript: Transcript, vector: np.ndarray | None = None) -> None:
    """Check a transcript: hashes, signatures, sets, thresholds, and the sum itself where it is given.

    What is shown is that identities signed one set of survivors, that enough neighbours of each and enough of the committee
    did, and that the sum is the one the server stated then. It does not show that the identities are different people's.

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
        len({advert.identity for advert in adverts}) == devices, "an identity twice", "devices that differ"
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
    _require(None not in sets, "a malformed set", "a bit a device")
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
        _require(index in survivors and index not in signed, "a signature by no survivor", "one a survivor")
        _require(
            verified(adverts[index].identity, signature, payload),
            "a forged signature of the survivors",
            "one by its device",
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
        # Its self-mask came off only if a threshold of its neighbours answered, each of whom wanted as many signatures.
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
            do="Do not trust this session: it was changed, or never was.",
        )
