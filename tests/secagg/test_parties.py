"""What each party does apart from a session's straight course: repeats, refusals, whom it lets in."""

import pytest

from fairyring.core.errors import MessageRefused, PlanError, SessionAborted
from fairyring.secagg import Device, Enrolled, Identity, MemoryLog, Session
from fairyring.secagg._suite import bitmap
from fairyring.secagg.messages import Advertise, Roster, Shares, Survivors, decode_kept, encode
from tests.secagg.driving import EVENTS, Play, identity, root_secret, small_terms, vectors_of
from tests.secagg.hostile import LOW_ORDER, View


def ready(devices: int = 4, *, vanish: dict[int, str] | None = None) -> Play:
    terms = small_terms(devices, dropout=0.25)
    return Play(terms, vectors_of(devices, terms), vanish)


def test_a_device_whose_answer_was_lost_gets_it_when_it_asks_again() -> None:
    play = ready()
    play.advertise()
    events = [
        ("start", "roster"),
        ("roster", "mailbox"),
        ("vector", "survivors"),
        ("survivors", "signatures"),
    ]
    for before, event in events:
        assert play.server.receive(play.sent[0, before]) == []  # not announced yet
        play.deliver(event)
        if event == "mailbox":
            play.contribute()
        delivered = play.delivered[0, "opening" if event == "mailbox" else play.server.phase]
        assert play.server.receive(play.sent[0, before]) == [(identity(0).public, delivered)]
        if event == "roster":
            with pytest.raises(MessageRefused, match="of another session"):
                play.server.receive(encode(_renamed(play)))
    play._close()
    assert play.server.result is not None
    assert play.server.receive(play.sent[0, "signatures"]) == []
    with pytest.raises(MessageRefused):
        play.server.close()


def _renamed(play: Play) -> Shares:
    """Shares under a root of no session."""
    shares = decode_kept(play.sent[0, "roster"], Shares)
    return Shares(bytes(32), shares.sender, shares.sealed, shares.signature)


def test_a_device_says_the_same_however_often_it_is_told_the_same() -> None:
    play = ready().run()
    device = play.devices[0]
    phases = ["sharing", "opening", "confirming", "unmasking"]
    answers = ["roster", "mailbox", "survivors", "signatures"]
    for phase, event in zip(phases, answers, strict=True):
        for _ in range(2):
            assert device.receive(play.delivered[0, phase]) == play.sent.get((0, event))
    assert device.start() == play.sent[0, "start"]
    assert device.contribute(play.vectors[1]) == play.sent[0, "vector"]


def test_the_server_waits_for_as_many_as_may_still_come() -> None:
    play = ready(vanish={3: "vector"})
    assert play.server.waiting_for == 4
    play.advertise()
    assert play.server.waiting_for == 0
    for event in EVENTS[:2]:
        play.deliver(event)
        assert play.server.waiting_for == (0 if event == "roster" else 4)
    play.contribute()
    assert play.server.waiting_for == 1
    play.deliver("survivors")
    assert play.server.waiting_for == 0
    play.deliver("signatures")
    assert play.server.waiting_for == 0


def test_a_device_that_lost_its_log_is_left_out_with_both_its_adverts() -> None:
    play = ready()
    play.advertise()
    again = Device(play.session, identity(0), MemoryLog(), entropy=lambda size: root_secret(9)[:size])
    for data in (again.start(), play.devices[0].start(), again.start()):
        with pytest.raises(MessageRefused):
            play.server.receive(data)
    play.deliver("roster")
    assert (0, "roster") not in play.sent
    assert len(play.server._state.roster) == 3


def told_roster(device: Device, play: Play, beacon: bytes = b"") -> bytes | None:
    """What a device answers to an honest roster of everyone."""
    adverts = [decode_kept(one.start(), Advertise) for one in (device, *list(play.devices.values())[1:])]
    view = View(play.session, adverts, beacon)
    index = view.index[device.identity.public]
    near = tuple(view.adverts[j] for j in view.ring.neighbours(index))
    return device.receive(encode(Roster(b"".join(view.entries), beacon, near)))


def test_a_device_takes_no_part_below_its_own_floor() -> None:
    play = ready()
    device = Device(play.session, identity(0), MemoryLog(), floor=5)
    with pytest.raises(SessionAborted, match="a roster of 4"):
        told_roster(device, play)
    assert told_roster(Device(play.session, identity(0), MemoryLog(), floor=4), play)


def test_a_device_takes_no_neighbour_its_policy_does_not_admit() -> None:
    play = ready()
    some = Enrolled(identity(i).public for i in range(3))
    with pytest.raises(SessionAborted, match="may not take part"):
        told_roster(Device(play.session, identity(0), MemoryLog(), policy=some), play)


@pytest.mark.parametrize("key", ["encryption_key", "masking_key"])
def test_a_key_of_low_order_is_refused_by_the_server_and_by_its_neighbours(key: str) -> None:
    play = ready()
    advert = decode_kept(play.devices[1].start(), Advertise)
    fields = {name: getattr(advert, name) for name in advert.__struct_fields__} | {key: LOW_ORDER}
    false = Advertise(**fields)
    false = Advertise(**fields | {"signature": identity(1).sign(false.payload(play.session.context))})
    with pytest.raises(MessageRefused, match="low order"):
        play.server.receive(encode(false))
    play.devices[1].start = lambda: encode(false)  # type: ignore[method-assign]
    device = Device(play.session, identity(0), MemoryLog())
    with pytest.raises(SessionAborted, match="low order") as caught:
        told_roster(device, play)
    # Before it has said anything but its advert.
    assert caught.value.phase == "advertised"


def test_identities_sign_the_same_again_and_keep_their_key() -> None:
    one = Identity.generate()
    again = Identity(one.private_bytes())
    assert again.public == one.public
    assert again.sign(b"x") == one.sign(b"x") != one.sign(b"y")


def test_a_session_infeasible_for_those_who_came_names_its_phase() -> None:
    # Of ten, three may vanish; of three, that leaves fewer neighbours than it takes.
    terms = small_terms(10, adversarial=0.0, dropout=0.4)
    play = Play(terms, vectors_of(3, terms))
    with pytest.raises(SessionAborted) as caught:
        play.run()
    assert caught.value.phase == "advertising"


def test_a_survivor_that_never_sent_its_shares_is_not_believed() -> None:
    # Nobody holds a share of it: unmasking would ask for what cannot be given.
    play = ready(vanish={3: "roster"})
    play.advertise()
    for event in ("roster", "mailbox"):
        play.deliver(event)
    play.contribute()
    with pytest.raises(SessionAborted, match="never sent its shares"):
        play.devices[0].receive(encode(Survivors(play.server._state.root, b"\x0f")))
    stayed = bitmap([play.server._state.index[identity(i).public] for i in (0, 1, 2)], 4)
    assert play.devices[1].receive(encode(Survivors(play.server._state.root, stayed)))


def test_a_device_counts_the_survivors_and_its_neighbours_among_them() -> None:
    play = ready(vanish={3: "vector"})
    play.advertise()
    for event in ("roster", "mailbox"):
        play.deliver(event)
    play.contribute()
    places = [play.server._state.index[identity(i).public] for i in range(4)]
    with pytest.raises(SessionAborted, match="2 survivors"):
        play.devices[0].receive(encode(Survivors(play.server._state.root, bitmap(places[:2], 4))))


def test_a_device_signs_no_set_in_which_too_few_of_its_neighbours_stayed() -> None:
    # Three devices would make a sum, but two neighbours are no threshold.
    terms = small_terms(6, threat="semi_malicious", dropout=0.2)
    assert terms.graph(6).threshold == 3
    play = Play(terms, vectors_of(6, terms))
    play.advertise()
    for event in ("roster", "mailbox"):
        play.deliver(event)
    play.contribute()
    places = [play.server._state.index[identity(i).public] for i in range(6)]
    with pytest.raises(SessionAborted, match="2 surviving neighbours"):
        play.devices[0].receive(encode(Survivors(play.server._state.root, bitmap(places[:3], 6))))
    assert play.devices[1].receive(encode(Survivors(play.server._state.root, bitmap(places[:4], 6))))


@pytest.mark.parametrize(("number", "model"), [(-1, bytes(32)), (1 << 64, bytes(32)), (1, bytes(31))])
def test_a_session_is_of_a_round_and_a_model(number: int, model: bytes) -> None:
    with pytest.raises(PlanError, match=r"secure sum (round|model)"):
        Session(small_terms(3), number, model)
