"""How many bytes a device sends and receives in a secure sum."""

from typing import NamedTuple

from fairyring.secagg._suite import SIGNATURE_BYTES
from fairyring.secagg.messages import (
    SEALED_BYTES,
    Advertise,
    Consistency,
    Mailbox,
    MaskedInput,
    Roster,
    Shares,
    Signatures,
    Survivors,
    Unmask,
    encode,
    entry_bytes,
)
from fairyring.secagg.shamir import SHARE_BYTES
from fairyring.secagg.terms import Terms


class Traffic(NamedTuple):
    """Bytes of one device in one session, from its advert to its last answer."""

    up: int
    down: int


def traffic(terms: Terms, devices: int) -> Traffic:
    """The bytes of a device that stays to the end and has no disputes, and none of whose neighbours vanish.

    Computed for the largest index; a smaller one takes up to four bytes less in each message sent.

    Raises:
        PlanError: the terms allow no session of so many devices.
    """
    degree, (committee, needed) = terms.graph(devices).degree, terms.committee(devices)
    root, signature, last = bytes(32), bytes(SIGNATURE_BYTES), devices - 1
    everyone = bytes(-(-devices // 8))
    advert = Advertise(root, root, root, root, root, signature)
    sealed = (bytes(SEALED_BYTES),) * degree
    # No vector is allocated just to be measured: the length of its header is known.
    vector = (
        len(encode(MaskedInput(root, last, memoryview(b""), signature)))
        + _header(terms.vector_bytes)
        + terms.vector_bytes
    )
    up = (
        advert,
        Shares(root, last, sealed, signature),
        Consistency(root, last, signature),
        Unmask(root, last, (bytes(SHARE_BYTES),) * degree, signature),
    )
    down = (
        Roster(bytes(entry_bytes(named=terms.sparse)) * devices, b"", (advert,) * (degree + committee)),
        Mailbox(root, sealed),
        Survivors(root, everyone),
        Signatures(root, everyone, (signature,) * (degree + needed) + (b"",) * (committee - needed)),
    )
    return Traffic(vector + sum(len(encode(m)) for m in up), sum(len(encode(m)) for m in down))


def _header(length: int) -> int:
    """Bytes in MessagePack's header for so many bytes, beyond the two for an empty string."""
    return 0 if length < 1 << 8 else 1 if length < 1 << 16 else 3
