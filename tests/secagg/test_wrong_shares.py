"""Shares that open and are wrong: whom the server names, and whom it cannot tell apart."""

import msgspec

from fairyring.secagg import shamir
from fairyring.secagg._suite import seal
from fairyring.secagg.messages import Disclosure, Shares, Unmask, decode_kept, disclosure_payload, encode
from tests.secagg.driving import identity
from tests.secagg.spoiling import Spoiled, signed, small_terms, vectors_of

WRONG = (5).to_bytes(shamir.SHARE_BYTES, "little") * 2
DEVICES, SEALER = 20, 7


class Wrong(Spoiled):
    """A session in which one device seals, discloses or passes on shares of no secret of its own."""

    victims: frozenset[int]  # numbers of those it seals wrong shares for
    discloses: bytes = WRONG
    passes_on: frozenset[int] = frozenset()  # numbers of holders that pass on something else than they hold

    def spoilt(self, i: int, answer: bytes) -> bytes:
        if self.sorry:
            return super().spoilt(i, answer)
        shares = decode_kept(answer, Shares)
        sealed = list(shares.sealed)
        self.victims = frozenset(self.near(i)[:3])
        for other in self.victims:
            sealed[self.near(i).index(other)] = seal(self.envelope(i, other), WRONG, shares.root)
        changed = msgspec.structs.replace(shares, sealed=tuple(sealed))
        return encode(signed(changed, i, self.session.context))

    def amends(self, i: int) -> bytes:
        message = decode_kept(super().amends(i), Disclosure)
        root, context = message.root, self.session.context
        given = list(message.disclosed)
        for place, other in enumerate(self.near(i)):
            if given[place] and other in self.victims:
                payload = disclosure_payload(context, root, self.index(i), self.index(other), WRONG)
                given[place] = WRONG + identity(i).sign(payload)
        return encode(signed(Disclosure(root, self.index(i), tuple(given), bytes(64)), i, context))

    def changed(self, i: int, event: str, answer: bytes | None) -> bytes | None:
        if event == "signatures" and i in self.passes_on and answer is not None:
            message = decode_kept(answer, Unmask)
            shares = list(message.shares)
            shares[self.near(i).index(SEALER)] = WRONG[: shamir.SHARE_BYTES]
            return encode(
                signed(msgspec.structs.replace(message, shares=tuple(shares)), i, self.session.context)
            )
        return super().changed(i, event, answer)


def session(
    *, sorry: bool, victims: frozenset[int] = frozenset(), passes_on: frozenset[int] = frozenset()
) -> Wrong:
    terms = small_terms(DEVICES, adversarial=0.1, dropout=0.1)
    vectors = vectors_of(DEVICES, terms)
    play = Wrong(terms, vectors, {SEALER: {0, 1, 2}}, sorry={SEALER} if sorry else ())
    play.victims, play.passes_on = victims, passes_on
    play.run()
    result = play.server.result
    assert result is not None
    assert result.sum.tolist() == play.plain()
    assert not play.server.barred
    return play


def named(play: Wrong) -> set[int]:
    return {play.number[one] for one in play.server.liars}


def test_wrong_shares_that_their_sealer_disclosed_are_laid_to_it() -> None:
    assert named(session(sorry=True, victims=frozenset({0, 1, 2}))) == {SEALER}


def test_whoever_passes_on_another_share_than_was_disclosed_is_named_and_not_the_sealer() -> None:
    assert named(session(sorry=True, passes_on=frozenset({0, 1, 2}))) == {0, 1, 2}


def test_of_wrong_shares_that_were_sealed_the_holders_are_named_though_they_are_honest() -> None:
    # Nobody else has seen what was sealed: this is what `Server.liars` says that it cannot tell.
    play = session(sorry=False)
    assert named(play) == play.victims
    assert SEALER not in play.victims
