"""What one device that does not keep to the protocol can do to a session of others that do."""

import msgspec
import pytest

from fairyring.core.errors import MessageRefused, SessionAborted
from fairyring.secagg.messages import Advertise, Unmask, decode_kept, encode
from tests.secagg.driving import Play, identity, small_terms, vectors_of


def session(devices: int = 9, **options) -> Play:
    terms = small_terms(devices + 1, threat="semi_malicious", adversarial=0.2, **options)
    return Play(terms, vectors_of(devices, terms))


def lied(play: Play, liar: int, answer: bytes) -> bytes:
    """The liar's answer with every share it gives changed, signed again."""
    message = decode_kept(answer, Unmask)
    shares = tuple(bytes([share[0] ^ 1]) + share[1:] if share else share for share in message.shares)
    changed = msgspec.structs.replace(message, shares=shares)
    signature = identity(liar).sign(changed.payload(play.session.context))
    return encode(msgspec.structs.replace(changed, signature=signature))


def up_to_unmasking(play: Play, liars: set[int]) -> None:
    play.advertise()
    play.deliver("roster")
    play.deliver("mailbox")
    play.contribute()
    play.deliver("survivors")
    for to, data in play._close():
        i = play.number[to]
        answer = play.devices[i].receive(data)
        assert answer is not None
        play.server.receive(lied(play, i, answer) if i in liars else answer)


@pytest.mark.parametrize("liar", range(9))
def test_one_device_that_gives_wrong_shares_does_not_stop_the_sum(liar):
    play = session()
    up_to_unmasking(play, {liar})
    list(play.server.close())
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()


def test_where_all_lie_the_session_ends_without_a_sum():
    play = session()
    up_to_unmasking(play, set(range(9)))
    with pytest.raises(SessionAborted, match="do not give the committed secret"):
        list(play.server.close())
    assert play.server.result is None


@pytest.mark.parametrize("name", ["encryption_key", "masking_key"])
def test_a_device_with_anothers_key_is_not_let_in_and_the_others_go_on(name):
    play = session(6)
    play.advertise()
    stranger = identity(99)
    theirs = decode_kept(play.devices[0].start(), Advertise)
    own = decode_kept(play.devices[1].start(), Advertise)
    fresh = {"encryption_key": bytes([9]) * 32, "masking_key": bytes([8]) * 32}
    fields = fresh | {name: getattr(theirs, name), "identity": stranger.public}
    copied = msgspec.structs.replace(own, **fields)
    signed = msgspec.structs.replace(copied, signature=stranger.sign(copied.payload(play.session.context)))
    with pytest.raises(MessageRefused, match="another's key"):
        play.server.receive(encode(signed))
    for event in ("roster", "mailbox"):
        play.deliver(event)
    play.contribute()
    play.deliver("survivors")
    play.deliver("signatures")
    play._close()
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()
