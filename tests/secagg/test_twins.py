"""Keys of other bytes that agree on the same: what a device with its neighbour's twin must not take off."""

from collections.abc import Callable

import numpy as np
import pytest

from fairyring.core.packing import unpack_words
from fairyring.secagg import Device, MemoryLog, Session
from fairyring.secagg._steps import Keys
from fairyring.secagg._suite import KeyPair, self_mask
from fairyring.secagg.keystream import apply_masks, word_of
from fairyring.secagg.messages import Advertise, Mailbox, MaskedInput, Shares, decode_kept, encode
from tests.secagg.driving import identity, root_secret, small_terms, vectors_of
from tests.secagg.hostile import View

# A key is a number whose highest bit is not read. And a private key is a multiple of 8, so that it does not see a point
# of order 2 that is added to a public one, which takes the number to its inverse.
TWINS: dict[str, Callable[[int], int]] = {
    "the bit that is not read": lambda u: u | 1 << 255,
    "a point of order 2": lambda u: pow(u, -1, 2**255 - 19),
}


def twin_of(public: bytes, how: str) -> bytes:
    return TWINS[how](int.from_bytes(public, "little")).to_bytes(32, "little")


@pytest.mark.parametrize("how", TWINS)
def test_a_twin_has_other_bytes_and_agrees_on_the_same(how: str) -> None:
    public, other = KeyPair(b"\1" * 32).public, KeyPair(b"\2" * 32)
    assert twin_of(public, how) != public
    assert other.agree(twin_of(public, how)) == other.agree(public)


@pytest.mark.parametrize("how", TWINS)
def test_a_neighbours_twin_takes_no_mask_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = small_terms(3, threat="semi_malicious", adversarial=0.34)
    session = Session(terms, 0, bytes(32))

    def device(number: int, seed: int = 0) -> Device:
        return Device(
            session, identity(number), MemoryLog(), entropy=lambda size: root_secret(number, seed)[:size]
        )

    honest = [device(0), device(1)]
    adverts = [decode_kept(one.start(), Advertise) for one in honest]
    # The adversary tries until its place is on the victim's other side, where masks are added that are subtracted here.
    other, victim = sorted(range(2), key=lambda i: adverts[i].hash(session.context))
    twin, keys_of = twin_of(adverts[other].masking_key, how), Keys.of

    def with_twin(root: bytes) -> Keys:
        keys = keys_of(root)
        keys.masking.public = twin
        return keys

    monkeypatch.setattr(Keys, "of", with_twin)
    for seed in range(1, 100):
        liar = device(2, seed)
        advert = decode_kept(liar.start(), Advertise)
        if advert.hash(session.context) > adverts[victim].hash(session.context):
            break
    monkeypatch.setattr(Keys, "of", keys_of)
    assert advert.masking_key == twin

    view = View(session, [*adverts, advert])
    assert view.index[identity(victim).public] == 1
    everyone = [*honest, liar]
    sealed = {}
    for one in everyone:
        shares = decode_kept(one.receive(encode(view.roster(one.identity.public))) or b"", Shares)
        sealed[shares.sender] = shares.sealed
    keys, root = honest[victim]._memory.keys, view.root
    assert keys is not None
    box = tuple(sealed[i][view.ring.place(1, i) - 1] for i in view.ring.neighbours(1))
    assert honest[victim].receive(encode(Mailbox(root, box))) is None
    vector = vectors_of(1, terms)[0]
    packed = decode_kept(honest[victim].contribute(vector), MaskedInput).vector
    received = unpack_words(packed, terms.modulus_bits, terms.words, word_of(terms.modulus_bits)).copy()
    # Its own mask comes off when it is in the sum. What is left is still under the mask with the honest neighbour.
    apply_masks(received, [(self_mask(keys.seed, root, session.context), -1)])
    assert not np.array_equal(received[: terms.length], vector)
    assert not np.array_equal(received[terms.length :], session.check)
