"""What one device that does not keep to the protocol can do to a session of others that do."""

from dataclasses import replace

import msgspec
import pytest

from fairyring.core.errors import MessageRefused, SessionAborted
from fairyring.secagg._steps import Keys
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
    assert play.server.liars == (identity(liar).public,)
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()


@pytest.mark.parametrize(("devices", "liars", "threshold"), [(9, {1, 3, 5}, 5), (30, {0, 6, 11, 17, 23}, 18)])
def test_several_that_give_wrong_shares_are_done_without_wherever_they_lie(devices, liars, threshold):
    # Of 30, 29 shares of a secret of which 18 make it: 5 wrong ones are found. Of 9, 8 and 5: every set is tried.
    play = session(devices)
    assert play.session.terms.graph(devices).threshold == threshold
    up_to_unmasking(play, liars)
    list(play.server.close())
    assert play.server.result is not None
    assert play.server.result.sum.tolist() == play.plain()
    assert {play.number[one] for one in play.server.liars} <= liars


def test_where_all_lie_the_session_ends_without_a_sum():
    play = session()
    up_to_unmasking(play, set(range(9)))
    with pytest.raises(SessionAborted, match="do not give the committed secret"):
        list(play.server.close())
    assert play.server.result is None


def test_a_device_that_seals_shares_of_another_secret_is_named_where_they_are_joined():
    # They open, so nobody can complain: what this costs is the sum.
    play = session()
    play.advertise()
    play.devices[4]._memory = replace(play.devices[4]._memory, keys=wrong_seed(play))
    for event in ("roster", "mailbox"):
        play.deliver(event)
    assert play.server.barred == ()
    play.contribute()
    play.deliver("survivors")
    play.deliver("signatures")
    with pytest.raises(SessionAborted, match=f"secret of device {identity(4).public.hex()[:8]}"):
        list(play.server.close())


def wrong_seed(play: Play) -> Keys:
    keys = play.devices[4]._memory.keys
    assert keys is not None
    return keys._replace(seed=bytes(32))


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
