"""The sum: masked inputs added up, and every mask taken out that did not cancel."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from fairyring.core.cores import available_cores
from fairyring.core.packing import unpack_words
from fairyring.secagg import shamir
from fairyring.secagg._decoding import decode
from fairyring.secagg._suite import KeyPair, digest, pair_mask, self_mask
from fairyring.secagg.graph import Ring
from fairyring.secagg.keystream import apply_masks, word_of
from fairyring.secagg.messages import Advertise, MaskedInput, decode_kept
from fairyring.secagg.terms import Session

_MASKS_AT_A_TIME = 128  # ciphers that are open at once
_MOST_SETS = 2000  # of shares, all of which are tried


class Known(NamedTuple):
    """What a server knows when all shares have come.

    Attributes:
        session, root, threshold, ring: of the session.
        roster: adverts by index.
        holders: who sent shares.
        survivors: whose input came, ascending.
        shares: what each device gave for its neighbours, by place.
        disclosed: `disclosed(holder, owner)`, the two shares that the owner signed for the holder, or nothing.
    """

    session: Session
    root: bytes
    threshold: int
    ring: Ring
    roster: Sequence[Advertise]
    holders: set[int]
    survivors: Sequence[int]
    shares: Mapping[int, Sequence[bytes]]
    disclosed: Callable[[int, int], bytes]


class Unrecovered(Exception):
    """A secret that is needed cannot be had.

    Args:
        given: what there is.
        expected: what it takes.
    """

    def __init__(self, given: str, expected: str) -> None:
        self.given, self.expected = given, expected
        super().__init__(given)


def total(known: Known, inputs: Iterable[bytes]) -> tuple[np.ndarray, set[int]]:
    """The sum of the survivors' vectors modulo `2**modulus_bits`: `[terms.words]`, check numbers last; and who is
    named for wrong shares, see `Server.liars`.

    Args:
        known: see there.
        inputs: the survivors' `MaskedInput` messages, in any order; one is held at a time.

    Raises:
        Unrecovered: too few shares of a secret, or none that give it.
    """
    terms = known.session.terms
    liars: set[int] = set()
    masks = _left_over(known, liars)
    word = word_of(terms.modulus_bits)
    added = np.zeros(terms.words, word)
    for data in inputs:
        packed = decode_kept(data, MaskedInput).vector
        np.add(added, unpack_words(packed, terms.modulus_bits, terms.words, word), out=added)
    for start in range(0, len(masks), _MASKS_AT_A_TIME):
        apply_masks(added, masks[start : start + _MASKS_AT_A_TIME], threads=available_cores())
    added &= known.session.mask
    return added, liars


def _left_over(known: Known, liars: set[int]) -> list[tuple[bytes, int]]:
    """The masks that did not cancel, as `apply_masks` takes them out: survivors' own, and those shared with the vanished.
    Adds to `liars`."""
    context, root, alive = known.session.context, known.root, set(known.survivors)
    masks = []
    for owner in known.survivors:
        commitment = known.roster[owner].commitment
        seed = _recovered(known, owner, liars, lambda s, c=commitment: digest("commitment", s) == c)
        masks.append((self_mask(seed, root, context), -1))
    for owner in sorted(known.holders - alive):
        near = [index for index in known.ring.neighbours(owner) if index in alive]
        if not near:
            continue  # nobody's input holds a mask with it
        key = known.roster[owner].masking_key
        keys = KeyPair(_recovered(known, owner, liars, lambda s, k=key: KeyPair(s).public == k))
        for index in near:
            agreed = keys.agree(known.roster[index].masking_key)
            mask = pair_mask(agreed, root, context, owner, index)
            masks.append((mask, -1 if index < owner else 1))
    return masks


def _recovered(known: Known, owner: int, liars: set[int], right: Callable[[bytes], bool]) -> bytes:
    """A secret of a device from its neighbours' shares; `right(secret)` tells whether it is the one. Adds to `liars`."""
    near = known.ring.neighbours(owner)
    shares = {}
    for place, holder in enumerate(near, start=1):
        given = known.shares.get(holder)
        if given is not None:
            share = given[known.ring.place(owner, holder) - 1]
            if share:
                shares[place] = share
    threshold = known.threshold
    if len(shares) < threshold:
        raise Unrecovered(
            f"{len(shares)} shares of a device's secret", f"at least {threshold}: too many have vanished"
        )
    trusted = {place: share for place, share in shares.items() if near[place - 1] not in liars}
    if len(trusted) < threshold:
        trusted = shares
    secret = shamir.reconstruct({place: trusted[place] for place in list(trusted)[:threshold]})
    if secret is not None and right(secret):
        return secret
    for some in (trusted, shares):
        decoded = decode(some, threshold)
        if decoded is not None and right(decoded.secret):
            liars.update(_blamed(known, near[place - 1], owner, shares[place]) for place in decoded.wrong)
            return decoded.secret
    for chosen in _sets(list(shares), threshold):
        secret = shamir.reconstruct({place: shares[place] for place in chosen})
        if secret is not None and right(secret):
            return secret
    name = known.roster[owner].identity.hex()[:8]
    raise Unrecovered(
        f"shares that do not give the committed secret of device {name}: it sealed others, or too many changed them",
        "honest shares",
    )


def _blamed(known: Known, holder: int, owner: int, share: bytes) -> int:
    """Whom a wrong share of `owner` is laid to: the holder that gave it, but for one that the owner has signed itself."""
    half = slice(shamir.SHARE_BYTES) if owner in known.survivors else slice(shamir.SHARE_BYTES, None)
    return owner if known.disclosed(holder, owner)[half] == share else holder


def _sets(places: Sequence[int], threshold: int) -> Iterator[Sequence[int]]:
    """Sets of shares to try where more are wrong than decoding finds: all, where there are few; otherwise those that leave
    out the next few, all around."""
    if math.comb(len(places), threshold) <= _MOST_SETS:
        yield from combinations(places, threshold)
        return
    for first in range(0, len(places), max(1, len(places) - threshold)):
        yield [places[(first + i) % len(places)] for i in range(threshold)]
