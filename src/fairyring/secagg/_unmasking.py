"""Computing the sum: masked inputs are added, and masks that did not cancel are removed."""

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

_MASKS_AT_A_TIME = 128  # ciphers open at once
_MAXIMUM_SETS = 2000  # up to so many sets of shares are all tried


class Known(NamedTuple):
    """What a server knows when all shares have arrived.

    Attributes:
        session, root, threshold, ring: the session's.
        roster: adverts by index.
        holders: the devices that sent shares.
        survivors: the devices whose input arrived, ascending.
        shares: device -> the shares it returned, by its neighbours' places.
        disclosed: `disclosed(holder, owner)` is the two shares that the owner disclosed for the holder, or empty.
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
    """A secret that the sum needs cannot be recovered.

    Args:
        given: what there was.
        expected: what would have been needed.
    """

    def __init__(self, given: str, expected: str) -> None:
        self.given, self.expected = given, expected
        super().__init__(given)


def total(known: Known, inputs: Iterable[bytes]) -> tuple[np.ndarray, set[int]]:
    """The sum of the survivors' vectors, and the devices to which wrong shares are attributed (see `Server.liars`).

    Args:
        known: what the server knows.
        inputs: the survivors' `MaskedInput` messages, in any order; one is in memory at a time.

    Returns:
        The sum modulo `2**modulus_bits`, `[terms.words]` with the check numbers last, and indices of devices.

    Raises:
        Unrecovered: too few shares of a secret, or too many wrong ones.
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
    """The masks that did not cancel, with the signs that remove them. Adds to `liars`.

    They are the survivors' own masks, and the masks that survivors share with vanished devices.
    """
    context, root, alive = known.session.context, known.root, set(known.survivors)
    masks = []
    for owner in known.survivors:
        commitment = known.roster[owner].commitment
        seed = _recovered(known, owner, liars, lambda s, c=commitment: digest("commitment", s) == c)
        masks.append((self_mask(seed, root, context), -1))
    for owner in sorted(known.holders - alive):
        near = [index for index in known.ring.neighbours(owner) if index in alive]
        if not near:
            continue  # no input contains a mask shared with it
        key = known.roster[owner].masking_key
        keys = KeyPair(_recovered(known, owner, liars, lambda s, k=key: KeyPair(s).public == k))
        for index in near:
            agreed = keys.agree(known.roster[index].masking_key)
            mask = pair_mask(agreed, root, context, owner, index)
            masks.append((mask, -1 if index < owner else 1))
    return masks


def _recovered(known: Known, owner: int, liars: set[int], right: Callable[[bytes], bool]) -> bytes:
    """A device's secret, from its neighbours' shares; `right(secret)` checks it. Adds to `liars`."""
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
        f"shares that do not give the committed secret of device {name}: it sealed wrong ones, or too many devices changed them",
        "honest shares",
    )


def _blamed(known: Known, holder: int, owner: int, share: bytes) -> int:
    """Who is to blame for a wrong share: the holder that returned it, or the owner if it disclosed that share itself."""
    half = slice(shamir.SHARE_BYTES) if owner in known.survivors else slice(shamir.SHARE_BYTES, None)
    return owner if known.disclosed(holder, owner)[half] == share else holder


def _sets(places: Sequence[int], threshold: int) -> Iterator[Sequence[int]]:
    """Sets of shares to try if more are wrong than decoding can correct.

    All sets if there are few. Otherwise sets that leave out a run of neighbouring shares, one run after another.
    """
    if math.comb(len(places), threshold) <= _MAXIMUM_SETS:
        yield from combinations(places, threshold)
        return
    for first in range(0, len(places), max(1, len(places) - threshold)):
        yield [places[(first + i) % len(places)] for i in range(threshold)]
