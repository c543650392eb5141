"""A server that says who stayed as it likes, and all it can learn: real devices, and the adversary's arithmetic."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import pytest

from fairyring.core.errors import SessionAborted
from fairyring.core.packing import unpack_words
from fairyring.secagg import Device, GraphParameters, MemoryLog, Session, Terms, shamir
from fairyring.secagg import terms as terms_module
from fairyring.secagg._committee import NOBODY, Committee
from fairyring.secagg._suite import KeyPair, bitmap, pair_mask, self_mask
from fairyring.secagg.keystream import apply_masks, word_of
from fairyring.secagg.messages import (
    Advertise,
    Consistency,
    Mailbox,
    MaskedInput,
    Shares,
    Signatures,
    Survivors,
    Unmask,
    decode_kept,
    encode,
)
from tests.secagg.driving import identity, plain_sum, root_secret, small_terms, vectors_of
from tests.secagg.hostile import View

SEED, KEY = 0, 1


def forced(patch: pytest.MonkeyPatch, graph: GraphParameters, committee: Committee = NOBODY) -> None:
    """Every session has this graph and this committee, so that a ring can be long where devices are few."""
    patch.setattr(terms_module, "session_graph", lambda *rates: graph)
    patch.setattr(terms_module, "session_committee", lambda *rates: committee)


class Lies:
    """One session, up to its inputs; then `told` tells each device a set of survivors and `learned` does the sums.

    Devices are named by their place on the ring: who is where is known before a word is said about who stayed.

    Args:
        devices: how many.
        minimum_cohort: the fewest a sum may be of.
        corrupt: places of the adversary's devices, which sign anything and give all they hold.
        withheld: `withheld(holder, owner)`: the holder's mailbox comes without the owner's shares.
    """

    def __init__(
        self,
        devices: int,
        minimum_cohort: int,
        corrupt: Collection[int] = (),
        withheld: Callable[[int, int], bool] = lambda holder, owner: False,
    ) -> None:
        self.terms: Terms = small_terms(devices, threat="semi_malicious", minimum_cohort=minimum_cohort)
        self.session, self.count, self.corrupt = Session(self.terms, 0, bytes(32)), devices, set(corrupt)
        built = [
            Device(self.session, identity(i), MemoryLog(), entropy=lambda size, i=i: root_secret(i)[:size])
            for i in range(devices)
        ]
        self.view = view = View(self.session, [decode_kept(one.start(), Advertise) for one in built])
        by_index = sorted(built, key=lambda one: view.index[one.identity.public])
        self.order = view.ring._order
        self.at = {index: place for place, index in enumerate(self.order)}
        self.devices = [by_index[index] for index in self.order]
        self.vectors = vectors_of(devices, self.terms)
        self.left: dict[int, str] = {}
        shares = {
            place: decode_kept(self._given(place, encode(view.roster(one.identity.public))), Shares)
            for place, one in enumerate(self.devices)
        }
        self.inputs: dict[int, np.ndarray] = {}
        self.held: dict[
            int, set[int]
        ] = {}  # seats of the neighbours whose shares came, known to who carried them
        for place, one in enumerate(self.devices):
            entries = tuple(
                b"" if withheld(place, other) else shares[other].sealed[self._seat(place, other)]
                for other in self.near(place)
            )
            self._given(place, encode(Mailbox(view.root, entries)))
            self.held[place] = {seat for seat, entry in enumerate(entries) if entry}
            if place not in self.left:
                packed = decode_kept(one.contribute(self.vectors[place]), MaskedInput).vector
                bits = self.terms.modulus_bits
                self.inputs[place] = unpack_words(packed, bits, self.terms.words, word_of(bits))
        self.answers: dict[int, Unmask] = {}

    def near(self, place: int) -> list[int]:
        """Places of its neighbours, in the order its messages have them."""
        return [self.at[index] for index in self.view.ring.neighbours(self.order[place])]

    def _seat(self, holder: int, owner: int) -> int:
        return self.view.ring.place(self.order[holder], self.order[owner]) - 1

    def _given(self, place: int, data: bytes) -> bytes:
        try:
            return self.devices[place].receive(data) or b""
        except SessionAborted as error:
            self.left[place] = str(error)
            return b""

    def telling(self, stories: Mapping[int, Collection[int]]) -> "Lies":
        """Tell each honest place in `stories` its set of survivors, then ask for shares whoever has heard enough."""
        sets = {place: bitmap({self.order[p] for p in story}, self.count) for place, story in stories.items()}
        signed: dict[int, bytes] = {}
        for place, story in sets.items():
            answer = self._given(place, encode(Survivors(self.view.root, story)))
            if answer:
                signed[place] = decode_kept(answer, Consistency).signature
        for place, story in sets.items():
            if place not in signed:
                continue
            payload = Survivors(self.view.root, story).payload(self.session.context)
            committee = [self.at[index] for index in self.view.committee]
            signatures = tuple(
                self.devices[other].identity.sign(payload)
                if other in self.corrupt
                else signed[other]
                if other in signed and sets[other] == story
                else b""
                for other in (*self.near(place), *committee)
            )
            answer = self._given(place, encode(Signatures(self.view.root, story, signatures)))
            if answer:
                self.answers[place] = decode_kept(answer, Unmask)
        self.stories = stories
        return self

    def _secret(self, owner: int, kind: int) -> bytes | None:
        """A secret of an honest device, from all shares of it the adversary has."""
        shares = {}
        for seat, holder in enumerate(self.near(owner), start=1):
            place = self.near(holder).index(owner)
            if holder in self.corrupt:
                held = self.devices[holder]._memory.held.get(place)
                share = held[kind] if held else b""
            else:
                says = SEED if owner in self.stories.get(holder, ()) else KEY
                share = self.answers[holder].shares[place] if holder in self.answers and says == kind else b""
            if share:
                shares[seat] = share
        threshold = self.view.graph.threshold
        if len(shares) < threshold:
            return None
        return shamir.reconstruct(dict(list(shares.items())[:threshold]))

    def learned(self, members: Collection[int]) -> list[int] | None:
        """The sum of these honest devices' vectors, if the adversary can take off all that hides it."""
        word = word_of(self.terms.modulus_bits)
        total = np.zeros(self.terms.words, word)
        masks = []
        root, context = self.view.root, self.session.context
        for place in members:
            seed = self._secret(place, SEED)
            if seed is None or place not in self.inputs:
                return None
            total += self.inputs[place]
            masks.append((self_mask(seed, root, context), -1))
            advert = self.devices[place]._memory.advert
            assert advert is not None
            for seat, other in enumerate(self.near(place)):
                held = seat in self.held[place]
                if not held or (other in members and self.near(other).index(place) in self.held[other]):
                    continue
                if other in self.corrupt:
                    keys = self.devices[other]._memory.keys
                    assert keys is not None
                    key = keys.masking
                else:
                    secret = self._secret(other, KEY)
                    if secret is None:
                        return None
                    key = KeyPair(secret)
                ends = self.order[place], self.order[other]
                mask = pair_mask(key.agree(advert.masking_key), root, context, *ends)
                masks.append((mask, -1 if self.order[place] < self.order[other] else 1))
        apply_masks(total, masks)
        return (total & self.session.mask)[: self.terms.length].tolist()

    def plain(self, members: Collection[int]) -> list[int]:
        """What that sum is."""
        return plain_sum([self.vectors[place] for place in members], self.terms)
