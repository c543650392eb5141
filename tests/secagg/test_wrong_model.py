"""A device that was given another model than the rest: nobody learns its vector, and no sum comes of it."""

import numpy as np
import pytest

from fairyring.core.errors import MessageRefused, SessionAborted
from fairyring.secagg import Session
from fairyring.secagg.messages import Advertise, MaskedInput, Roster, decode_kept, encode
from tests.secagg.driving import Play, small_terms, vectors_of
from tests.secagg.hostile import View

OTHER = b"\1" * 32


def test_an_honest_server_does_not_let_it_in() -> None:
    terms = small_terms(4, dropout=0.25)
    play = Play(terms, vectors_of(4, terms), models={1: OTHER})
    with pytest.raises(MessageRefused, match="forged signature"):
        play.advertise()


def test_its_neighbours_leave_if_the_server_lets_it_in() -> None:
    terms = small_terms(3)
    play = Play(terms, vectors_of(3, terms), models={1: OTHER})
    view = View(play.session, [decode_kept(d.start(), Advertise) for d in play.devices.values()])
    for i in (0, 2):
        own = view.index[play.identities[i].public]
        near = tuple(view.adverts[j] for j in view.ring.neighbours(own))
        with pytest.raises(SessionAborted, match="forged signature"):
            play.devices[i].receive(encode(Roster(b"".join(view.entries), b"", near)))


@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize("bits", [16, 24, 32, 33, 64])
def test_masks_of_another_model_leave_noise_which_the_check_numbers_show(bits: int, victim: int) -> None:
    # All else is as it should be: only the masks are of another model.
    terms = small_terms(4, bits=bits, length=4096, dropout=0.25)
    play = Play(terms, [np.zeros_like(v) for v in vectors_of(4, terms)])
    play.advertise()
    for event in ("roster", "mailbox"):
        play.deliver(event)
    device, own = play.devices[victim], play.session
    device._steps.session = Session(terms, own.round, OTHER)
    built = decode_kept(device.contribute(play.vectors[victim]), MaskedInput)
    signature = play.identities[victim].sign(built.payload(own.context))
    play.server.receive(encode(MaskedInput(built.root, built.sender, built.vector, signature)))
    device._steps.session = own
    play.contribute()
    play.deliver("survivors")
    play.deliver("signatures")
    total = play.server._state.total()[: terms.length]
    with pytest.raises(SessionAborted, match="check numbers are wrong") as caught:
        play._close()
    assert caught.value.phase == "unmasking"
    assert play.server.result is None
    # Four zero vectors do not sum to zero: half the bits are set, to within six standard deviations.
    ones = sum(int(word).bit_count() for word in total.tolist())
    of = terms.length * bits
    assert abs(ones - of / 2) < 6 * (of / 4) ** 0.5
